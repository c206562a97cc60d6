"""The generated functions between a user's call and the emitted code.

    def f(w0, x0, w1, x1, w2):                       # same signature as the user's function
        try:
            run = by_class[w0.__class__, x0.__class__, ...]
        except KeyError:
            run = call_slowly
        return run(w0, x0, w1, x1, w2)

Arrays are then told apart by dtype and shape, static arguments by value, and containers are taken
apart (fast_path.py). `run` takes the arguments and the leaves of containers. It converts numbers,
checks that captured values are unchanged, calls the emitted code and names the gradients.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from flatgrad import returned
from flatgrad.errors import error
from flatgrad.fast_path import compiled_text, leaf_names, local
from flatgrad.inspection import Inspection
from flatgrad.ir.ops import Slot
from flatgrad.ir.trees import comes_as_tuples
from flatgrad.ir.types import Array, Scalar
from flatgrad.shortcut import Shortcut
from flatgrad.structures import Spread


def public_function(
    derived: Any, function: Callable[..., Any], into: Any = None
) -> Callable[..., Any]:
    """The function that users call; `into` takes the calls with `out`, if there may be any."""
    # The parameters carry the user's names, and no other name here may be one of them.
    own = "_"
    while any(name.endswith(own) for name in derived.signature.parameters):
        own += "_"
    space: dict[str, Any] = {
        f"by_class{own}": derived.by_class, f"call_slowly{own}": derived.call_slowly,
        f"KeyError{own}": KeyError,
    }  # fmt: skip
    params, names = _parameters(derived.signature, own, space)
    arguments = ", ".join(names)
    classes = "".join(f"{name}.__class__, " for name in names)
    given, condition = "", ""
    if into is not None:
        condition = " and out is None"
        params += ["out=None"] if "*" in params else ["*", "out=None"]
        space[f"into_slowly{own}"] = into.call_slowly
        given = (
            f"    if out is not None:\n"
            f"        try:\n"
            f"            run{own} = by_class{own}[{classes}out.__class__, ]\n"
            f"        except KeyError{own}:\n"
            f"            run{own} = into_slowly{own}\n"
            f"        return run{own}({', '.join([*names, 'out'])})\n"
        )
    head = f"def caller({', '.join(params)}):"
    rest = (
        f"{given}"
        f"    try:\n"
        f"        run{own} = by_class{own}[{classes or '()'}]\n"
        f"    except KeyError{own}:\n"
        f"        run{own} = call_slowly{own}\n"
        f"    return run{own}({arguments})\n"
    )
    public: Any = compiled_text(f"{head}\n{rest}", space, "caller")
    derived.shortcut = Shortcut(public, head, rest, names, own, condition, public.__code__)
    plain = derived.primal
    public.__name__ = public.__qualname__ = plain.__name__
    public.__doc__ = plain.__doc__
    public.__module__ = plain.__module__
    public.__wrapped__ = plain
    public.__signature__ = derived.signature
    public.__flatgrad__ = derived
    Inspection(derived).attach(public, function)
    derived.wrapper = public
    wrapper: Callable[..., Any] = public
    return wrapper


def _parameters(
    signature: inspect.Signature, own: str, space: dict[str, Any]
) -> tuple[list[str], list[str]]:
    """The parameters of a function as text, and their names; defaults go to `space`."""
    params, names = [], []
    parameters = list(signature.parameters.values())
    for k, param in enumerate(parameters):
        if param.kind is param.KEYWORD_ONLY and "*" not in params:
            params.append("*")
        default = ""
        if param.default is not param.empty:
            space[f"default_{k}{own}"] = param.default
            default = f"=default_{k}{own}"
        params.append(f"{param.name}{default}")
        names.append(param.name)
        later = parameters[k + 1].kind if k + 1 < len(parameters) else None
        if param.kind is param.POSITIONAL_ONLY and later is not param.POSITIONAL_ONLY:
            params.append("/")
    return params, names


def runner(
    derived: Any, found: Any, given: Spread, places: dict[int, str] | None = None
) -> Any:
    """The function that runs one specialisation on arguments that fit it; `text` is its source.

    `places` are leaves, by the number of the gradient that is written into them, or of the result
    where this is no gradient.
    """
    compiled, values = found.compiled, given.values
    space: dict[str, Any] = {
        "emitted": compiled.function, "call_slowly": derived.call_slowly, "explain": explain,
        "compiled": compiled, "changed": derived.forget,
    }  # fmt: skip
    names = [local(name) for name in given.trees]
    leaves = [local(name) for name in leaf_names(given)]
    lines = [f"def run({', '.join(names + leaves)}):"]
    tests = _capture_tests(compiled, space, lines)
    if tests:
        lines += [
            f"    if {' or '.join(tests)}:",
            "        changed()",
            f"        return call_slowly({', '.join(names)})",
        ]
    passed = _passed(found, values, space) + [f"hidden_{k}" for k in range(len(compiled.hidden))]
    places = places or {}
    passed += [local(leaf) for leaf in places.values() if values[leaf].ndim]
    target, result = _results(derived, found, given, space, places)
    if places:
        lines.append(_place_test(derived.options.backend, found, given, places, space))
    lines += _sharing_tests(found, given.shown, space)
    as_it_is = target == result
    lines += [
        "    try:",
        f"        {'return' if as_it_is else f'{target} ='} emitted({', '.join(passed)})",
        "    except Exception as caught:",
        "        explain(caught, compiled)",
        "        raise",
    ]
    if not as_it_is:
        lines.append(f"    return {result}")
    text = "\n".join(lines) + "\n"
    run: Any = compiled_text(text, space, "run")
    run.text = text
    return run


def _sharing_tests(found: Any, words: dict[str, str], space: dict[str, Any]) -> list[str]:
    """Statements that refuse an array which the function writes to, and sees under another name.

    The compiled function writes to a copy: the other name would not see what is written.
    """
    tangents = found.compiled.request.tangents
    arrays = {
        local(name): words[name]
        for name, kind in found.types.items()
        if isinstance(kind, Array) and name not in tangents
    }
    for k, capture in enumerate(found.compiled.hidden):
        arrays[f"hidden_{k}"] = capture.name
    written = [local(name) for name in found.compiled.written if local(name) in arrays]
    lines = []
    for name in written:
        for other, shown in arrays.items():
            if other != name and not (other in written and other < name):
                lines.append(f"    if shared({name}, {other}):")
                lines.append(f"        raise together({arrays[name]!r}, {shown!r})")
    space.update(shared=_shared, together=_together)
    return lines


def _place_test(
    backend: str, found: Any, given: Spread, places: dict[int, str], space: dict[str, Any]
) -> str:
    """A statement that refuses arrays which cannot be written to, or share memory."""
    space["check_places"] = check_places
    arrays = [local(n) for n in found.types if isinstance(given.values[n], np.ndarray)]
    arrays += [f"hidden_{k}" for k, capture in enumerate(found.compiled.hidden)
               if isinstance(capture.value, np.ndarray)]  # fmt: skip
    targets = "".join(f"{local(leaf)}, " for leaf in places.values())
    others = "".join(f"{name}, " for name in arrays)
    return f"    check_places(({targets}), ({others}), {backend == 'numba'})"


def check_places(places: tuple[Any, ...], others: tuple[Any, ...], in_order: bool) -> None:
    """Refuse arrays for results that cannot be written to, or not without changing another.

    Arrays that nobody's memory is the base of share it with nobody, so that it suffices to tell
    them apart.
    """
    for place in places:
        flags = place.flags
        if not flags.writeable:
            raise _no_place("is read-only")
        if in_order and not flags.c_contiguous:
            raise _no_place("is not contiguous, which the Numba backend asks for")
    if all(x.base is None and x.flags.owndata for x in (*places, *others)):
        ids = {*map(id, places)}
        shared = len(ids) < len(places) or not ids.isdisjoint(map(id, others))
    else:
        shared = any(
            np.may_share_memory(place, other)
            for k, place in enumerate(places) for other in (*places[:k], *others)
        )  # fmt: skip
    if shared:
        raise _no_place("shares memory with an argument or with another array of `out`")


def _no_place(why: str) -> Exception:
    return error("bad-out", f"an array of `out` {why}", help="pass arrays of their own")


def _shared(one: Any, other: Any) -> bool:
    return isinstance(other, np.ndarray) and np.may_share_memory(one, other)


def _together(written: str, other: str) -> Exception:
    return error(
        "unsupported-write",
        f"`{written}` is written to by the function, and shares memory with `{other}`",
        help="pass a copy of one of them",
    )


def _capture_tests(compiled: Any, space: dict[str, Any], lines: list[str]) -> list[str]:
    """Conditions under which something outside the function has changed since compiling."""
    tests = []
    for k, capture in enumerate(compiled.captures):
        space[f"value_{k}"] = capture.value
        simple = isinstance(capture.value, type | Callable) or inspect.ismodule(capture.value)
        test = f"{_reading(capture.read, k, space)} is not value_{k}"
        if not simple:
            space[f"capture_{k}"] = capture
            test = f"({test} and not capture_{k}.unchanged())"
        tests.append(test)
    for k, capture in enumerate(compiled.hidden):
        # Compiled for an array of other lengths, maybe: those of today's were compared just now.
        now = capture.read()
        space[f"hidden_read_{k}"] = capture.read
        lines.append(f"    hidden_{k} = hidden_read_{k}()")
        space[f"hidden_class_{k}"] = type(now)
        test = f"hidden_{k}.__class__ is not hidden_class_{k}"
        if isinstance(now, np.ndarray):
            space[f"hidden_shape_{k}"] = now.shape
            space[f"hidden_dtype_{k}"] = now.dtype
            test += f" or hidden_{k}.shape != hidden_shape_{k}"
            test += f" or hidden_{k}.dtype != hidden_dtype_{k}"
        tests.append(test)
    return tests


def _reading(read: Callable[[], Any], k: int, space: dict[str, Any]) -> str:
    """The text that reads a capture: an attribute of a function by itself, others by a call."""
    match read:
        case partial(func=func, args=(owner, attribute)) if func is getattr:
            space[f"owner_{k}"] = owner
            return f"owner_{k}.{attribute}"
    space[f"read_{k}"] = read
    return f"read_{k}()"


def _passed(found: Any, values: dict[str, Any], space: dict[str, Any]) -> list[str]:
    """The arguments of the emitted code: ints made floats, 0-d arrays made numbers."""
    passed = []
    for name, kind in found.types.items():
        given = local(name)
        if isinstance(kind, Array):
            passed.append(given)
        elif isinstance(kind, Scalar):
            value = values[name]
            if isinstance(value, np.ndarray):
                passed.append(f"{given}[()]")
            elif not kind.weak and type(value) in (int, float):  # a tangent
                space[f"tangent_type_{name}"] = np.dtype(kind.dtype).type
                passed.append(f"tangent_type_{name}({given})")
            elif kind.dtype == "float64" and not isinstance(value, float):
                passed.append(f"float({given})")
            else:
                passed.append(given)
    return passed


def _results(
    derived: Any, found: Any, given: Spread, space: dict[str, Any], places: dict[int, str]
) -> tuple[str, str]:
    """The target that takes the emitted results apart, and the expression that is returned."""
    if found.finish is not None:
        space["finish"] = found.finish(found, given, [*places])
        arrays = "".join(f", {local(leaf)}" for leaf in places.values())
        return "result", "result" if space["finish"] is None else f"finish(result{arrays})"
    leaves, converted = [], []
    gradients = found.compiled.output_types[-len(found.wrt) :]
    straight = returned.is_straight(found.compiled.graph)
    for k, (name, kind) in enumerate(zip(found.wrt, gradients, strict=True)):
        leaves.append(f"g{k}")
        value = given.values[name]
        if k not in places:
            converted.append(returned.converted(f"g{k}", kind, value, space, straight=straight))
        elif value.ndim:
            converted.append(local(places[k]))
        else:
            space["put"] = _put
            converted.append(f"put({local(places[k])}, g{k})")
    target = "g0" if len(leaves) == 1 else f"({', '.join(leaves)})"
    result = returned.built(found.form, converted, space)
    if len(leaves) > 1 and converted == leaves:
        target, result = _whole(found.form, target, result, space)
    tree, types = found.compiled.graph.tree, found.compiled.output_types
    if derived.kind == "value_and_grad":
        text = _value("value", tree[0], types, tree, derived, space)
        if (text, result) == ("value", target):
            return "result", "result"
        return f"value, {target}", f"{text}, {result}"
    if derived.has_aux:
        aux = _value("aux", tree[1], types, tree, derived, space)
        return f"{target}, aux", f"{result}, {aux}"
    return target, result


def _whole(form: Any, target: str, result: str, space: dict[str, Any]) -> tuple[str, str]:
    """Where the tuple of the gradients can be handed out as it comes, or in a named one."""
    if isinstance(form, tuple) and form == tuple(map(Slot, range(len(form)))):
        named = type(form) is not tuple
        return "grads", f"new({returned.constant(type(form), space)}, grads)" if named else "grads"
    return target, result


def _put(place: np.ndarray, number: Any) -> np.ndarray:
    """An array of rank 0 with a number in it."""
    place[()] = number
    return place


def _value(
    text: str, tree: Any, types: Any, whole: Any, derived: Any, space: dict[str, Any]
) -> str:
    """What is returned beside the gradient; `whole` is all that the emitted code returns."""
    if derived.options.backend == "numba" or comes_as_tuples(whole):
        return returned.restored(text, tree, types, space)
    return text


def explain(caught: Exception, compiled: Any) -> None:
    """Say at which line of the user's code an error in the emitted code arose."""
    for frame in reversed(traceback.extract_tb(caught.__traceback__)):
        if frame.filename != compiled.path:
            continue
        origin = compiled.module.lines.get(frame.lineno)
        if origin is not None and origin.span is not None:
            sweep = "" if origin.sweep == "forward" else f" ({origin.sweep} sweep)"
            caught.add_note(f"from {origin.span}{sweep}: {origin.span.text.strip()}")
            break
