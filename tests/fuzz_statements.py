"""The statements of random programs: assignments, writes in place, aliases, views, calls.

    v = a[1:]          a view
    v *= np.tanh(s)    seen through `a`
    b = a              an alias
    b[[0, 0]] += 2.0   seen through `a` and, where they overlap, through `v`
"""

from __future__ import annotations

import numpy as np

from tests.fuzz_programs import Grower, Reject, is_array, is_float, wrapped


def grow(g: Grower) -> tuple[str, set[str]]:
    """Add statements; the returned expression and what is special about the program."""
    wanted = g.rng.randint(5, 22)
    for _ in range(wanted * 4):
        if len(g.statements) >= wanted:
            break
        makers, weights = zip(*STATEMENTS.items(), strict=True)
        maker = g.rng.choices(makers, weights)[0]
        try:
            g.run(maker(g))
        except Reject:
            continue
    for _ in range(200):
        try:
            return result(g)
        except Reject:
            continue
    return f"np.sum({next(name for name in g.given if is_array(g.given[name]))})", set()


def assign(g: Grower) -> str:
    """A new variable, or an old one again."""
    text = g.expression(g.rng.choice([1, 2, 2, 3]))
    name = g.fresh_name() if g.rng.random() < 0.75 else g.pick()
    return f"{name} = {text}"


def fitting(g: Grower, place: str) -> str:
    """An expression that can be stored in `place`."""
    wanted = np.shape(g.value(place))
    for _ in range(20):
        text = g.expression(g.rng.choice([0, 1, 1, 2]))
        shape = np.shape(g.value(text))
        if len(shape) > len(wanted):
            text = f"np.sum({text}, axis={tuple(range(len(shape) - len(wanted)))})"
            shape = np.shape(g.value(text))
        try:
            if np.broadcast_shapes(shape, wanted) == wanted:
                return text
        except ValueError:
            continue
    return g.rng.choice(["0.5", "1", f"np.sin({place})", f"np.sum({g.pick()})"])


def augmented(g: Grower) -> str:
    """`a += e` on an array, or a new number."""
    name = g.pick(is_array) if g.rng.random() < 0.8 else g.pick()
    return combined(g, name)


def combined(g: Grower, place: str) -> str:
    """`place op= e`."""
    text = fitting(g, place)
    match g.rng.choices(["+", "-", "*", "/", "**"], [4, 2, 3, 1, 0.3])[0]:
        case "/":
            return f"{place} /= 2.0 + np.cos({text})"
        case "**":
            return f"{place} **= 2"
        case sign:
            return f"{place} {sign}= {text}"


def write(g: Grower) -> str:
    """`a[i] = e`, `a[i] += e`."""
    name = g.pick(is_array)
    place = f"{name}[{g.index(name, advanced=True)}]"
    g.value(place)
    if g.rng.random() < 0.5:
        return f"{place} = {fitting(g, place)}"
    return combined(g, place)


def add_at(g: Grower) -> str:
    """`np.add.at`, with duplicates adding up."""
    name = g.pick(is_array)
    size = len(g.env[name])
    where = [g.rng.randrange(-size, size) for _ in range(3)]
    text = fitting(g, f"{name}[{where}]")
    return f"np.add.at({name}, {where}, {text})"


def alias(g: Grower) -> str:
    """A second name."""
    return f"{g.fresh_name()} = {g.pick(is_array)}"


def view(g: Grower) -> str:
    """A view, or what may be one."""
    name = g.pick(is_array)
    forms = [f"{name}[{g.index(name, advanced=False)}]"] * 10 + [
        f"{name}.T", f"{name}[::-1]", f"{name}[None]", f"{name}[:]", f"{name}[1:]",
        f"{name}[:, 0]", f"{name}[0]", f"{name}[::2]",
        f"np.swapaxes({name}, 0, -1)", f"np.expand_dims({name}, 0)", f"np.squeeze({name})",
        f"{name}[...]", f"np.diagonal({name})", f"np.flip({name}, 0)", f"np.asarray({name})",
        f"np.transpose({name}[1:])", f"np.moveaxis({name}, 0, -1)",
    ]  # fmt: skip
    if g.rng.random() < 0.06:  # written to, these are refused: they may be copies
        forms = [f"{name}.reshape(-1)", f"np.ravel({name})", f"{name}.reshape({name}.shape)"]
    return f"{g.fresh_name()} = {g.rng.choice(forms)}"


def unpack(g: Grower) -> str:
    """Several names at once."""
    one, other = g.pick(), g.pick()
    name = g.pick(is_array)
    p, q = g.fresh_name(), g.fresh_name() + "_"
    forms = [
        f"{one}, {other} = {other}, {one}", f"{p}, {q} = {one}, {wrapped(g.expression(1))}",
        f"{p}, {q} = np.split({name}, 2)", f"{p}, {q} = centered({name})",
        f"{p}, {q} = centered({name}, axis=-1)", f"{p}, *{q} = {one}, {other}, {one}\n{p} = {q}[1]",
        f"({p}, {q}), _ = ({one}, {other}), 1.0", f"{p} = {q} = {name} * 1.0",
        f"{p}, {q} = np.broadcast_arrays({one}, {other})\n{p} = {p} + {q}",
        f"{p}, {q} = np.array_split({name}, 2, axis=-1)",
    ]  # fmt: skip
    return g.rng.choice(forms)


def called(g: Grower) -> str:
    """A call of a helper."""
    name, new = g.pick(is_array), g.fresh_name()
    forms = [
        f"{new} = bump({name}, {fitting(g, name)})", f"{new} = first({name})",
        f"{new} = mixed({g.pick()}, {g.pick()})", f"bump({name}, {g.pick()})",
        f"{new} = put({name}, {g.pick()})", f"bump({name}[1:], 0.5)", f"{new} = scaled({g.pick()})",
        f"first({name})[:] = 0.5", f"{new} = bump(first({name}), 0.3)",
    ]  # fmt: skip
    return g.rng.choice(forms)


def container(g: Grower) -> str:
    """Lists and dicts of arrays, loops over them."""
    new, name, one, other = g.fresh_name(), g.pick(is_array), g.pick(), g.pick()
    forms = [
        f"parts = [{one}, {other}]\nparts.append({one})\n{new} = parts[0] + parts[-1]",
        f"{new} = 0.0\nfor q in ({one}, {other}, {one}):\n    {new} = {new} + np.sum(q * q)",
        f"for q in [{name}, {g.pick(is_array)}]:\n    q *= 0.5",
        f"for i in (0, 1):\n    {name}[i] = {name}[i] * {g.pick()}",
        f"box = {{'one': {one}, 'two': {name}}}\nbox['two'] += 0.25\n{new} = box['one'] * 2",
        f"{new} = sum([{one}, {other}, {one}])",
        f"if {name}.ndim == 2:\n    {new} = {name}[0]\nelse:\n    {new} = {name} * 2",
        f"{new} = [{name}[0], {name}[-1]]\n{new} = {new}[0] * {new}[1]",
        f"for i, q in enumerate(({one}, {name})):\n    {new} = q * (i + 1)",
    ]  # fmt: skip
    return g.rng.choice(forms)


def buffer(g: Grower) -> str:
    """An array made here and filled."""
    new, name = g.fresh_name(), g.pick(is_array)
    text = fitting(g, name)
    forms = [
        f"{new} = np.zeros_like({name})\n{new}[0] = {fitting(g, f'{name}[0]')}",
        f"{new} = np.empty_like({name})\n{new}[...] = {text}",
        f"{new} = np.zeros({name}.shape)\n{new} += {text}",
        f"{new} = np.zeros(({name}.shape[0], 2))\n{new}[:, 1] = np.sum({g.pick()})",
        f"{new} = np.full_like({name}, 0.5)\n{new}[1:] += {name}[1:]",
        f"{new} = {name}.copy()\n{new}[:-1] -= {name}[1:]",
        f"{new} = np.ones({name}.shape[-1])\n{new} *= {name}[..., 0].sum()",
    ]  # fmt: skip
    return g.rng.choice(forms)


def shifted(g: Grower) -> str:
    """Writes that read what they overwrite."""
    name = g.pick(is_array)
    forms = [
        f"{name}[1:] += {name}[:-1]", f"{name}[:] = {name}[::-1]", f"{name}[1:] = {name}[:-1]",
        f"{name} += {name}", f"{name} *= {name}", f"{name}[0] = {name}[-1] * {name}[0]",
        f"{name}[...] = np.sin({name})", f"{name}[{name} > 0.2] *= 0.5", f"{name} -= {name}.mean()",
        f"{name}[0], {name}[-1] = {name}[-1], {name}[0]", f"{name}[[0, 0]] += 1.5",
        f"{name} += {name}.T", f"{name}[...] += {name}[0]", f"{name}.T[0] += 0.5",
        f"{name}[::2][0] = {g.pick()}", f"{name}[:] = 0.25", f"{name}[0] += np.sum({name})",
    ]  # fmt: skip
    return g.rng.choice(forms)


STATEMENTS = {
    assign: 8, augmented: 2.5, write: 4, add_at: 0.4, alias: 1.2, view: 2.5, unpack: 1.2,
    called: 1.2, container: 1.2, buffer: 1, shifted: 1.5,
}  # fmt: skip


def result(g: Grower) -> tuple[str, set[str]]:
    """A number that most of what is alive takes part in."""
    names = list(dict.fromkeys([g.pick() for _ in range(5)] + g.names(is_array)[-3:]))
    forms = [
        "np.sum({x} * {x}) * {c}", "np.mean(np.sin({x}))", "np.sum({x} * {c})", "{c} * np.max({x})",
        "np.tanh(np.sum({x}))", "{c} * np.sum(np.cos({x} + {c}))",
        "np.sqrt(1.0 + np.sum({x} ** 2))",
    ]  # fmt: skip
    parts = []
    for name in names:
        c = round(g.rng.uniform(-1.5, 1.5), 2)
        parts.append(g.rng.choice(forms).format(x=name, c=c))
    total = " + ".join(parts)
    if np.ndim(g.value(total)) or not is_float(g.value(total)):
        raise Reject
    if g.rng.random() < 0.12:
        aux = g.pick()
        forms = [f"{total}, {aux}", f"({total}), ({aux}, {{'w': {g.pick()}}})"]
        return g.rng.choice(forms), {"aux"}
    if g.rng.random() < 0.3:
        g.run(f"L = {total}")
        return "L", set()
    return total, set()
