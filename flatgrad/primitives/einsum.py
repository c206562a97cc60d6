"""np.einsum: sums of products, with the axes named by letters.

    y = np.einsum("ij,jk->ik", a, b)     grad_a = np.einsum("ik,jk->ij", grad_y, b)
    y = np.einsum("i,i->", a, b)         grad_a = grad_y * b
    y = np.einsum("ij->", a)             grad_a = grad_y along every axis

Subscripts are kept written out: with `->`, and with letters for an ellipsis. Where an axis of
length 1 meets a longer one of the same letter, the former is repeated, as NumPy does.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

import numpy as np

from flatgrad.ir.dims import Size, may_be_one
from flatgrad.ir.ops import Value
from flatgrad.ir.types import make
from flatgrad.primitives.linalg import joint_dtype, require_arrays, unit_matrix
from flatgrad.primitives.registry import call, composite, jvp, linear, primitive, vjp
from flatgrad.primitives.samples import A
from flatgrad.primitives.shape import rank_of
from flatgrad.primitives.symbolic import Symbol, apply_function
from flatgrad.primitives.typerules import argument, fail, named, require_same


@dataclass(frozen=True, slots=True)
class Subscripts:
    """The letters of each operand and of the result."""

    inputs: tuple[str, ...]
    output: str

    def __str__(self) -> str:
        return f"{','.join(self.inputs)}->{self.output}"

    @staticmethod
    def read(text: str) -> Subscripts:
        """From subscripts that are written out."""
        left, output = text.split("->")
        return Subscripts(tuple(left.split(",")), output)


def written_out(text, ranks):
    """The subscripts of operands with these ranks, without `...` and with `->`.

    Raises
    ------
    UnsupportedError, ShapeError
        If the text is malformed or names more or fewer axes than there are.
    """
    plain = text.replace(" ", "")
    left, arrow, output = plain.partition("->")
    terms = left.split(",")
    allowed = set(string.ascii_letters)
    if not all(set(term.replace("...", "", 1)) <= allowed for term in (*terms, output)):
        raise fail("unsupported-argument", f"einsum subscripts {text!r}")
    if len(terms) != len(ranks):
        raise fail(
            "unsupported-argument",
            f"einsum subscripts {text!r} name {len(terms)} operands, {len(ranks)} are given",
        )
    rests = [_rest(term, rank, text) for term, rank in zip(terms, ranks, strict=True)]
    unused = [c for c in string.ascii_letters if c not in plain]
    dots = "".join(unused[: max(rests)])
    inputs = [
        term.replace("...", dots[len(dots) - rest :])
        for term, rest in zip(terms, rests, strict=True)
    ]
    if not arrow:
        named_once = [c for c in sorted(set(left) & allowed) if left.count(c) == 1]
        return Subscripts(tuple(inputs), dots + "".join(named_once))
    if dots and "..." not in output:
        raise fail("unsupported-argument", f"einsum subscripts {text!r} lose the axes of `...`")
    output = output.replace("...", dots)
    if len(set(output)) < len(output) or not set(output) <= set("".join(inputs)):
        raise fail(
            "unsupported-argument",
            f"einsum subscripts {text!r}: each letter after `->` stands there once, and before it",
        )
    return Subscripts(tuple(inputs), output)


def _rest(term, rank, text):
    """How many axes `...` stands for."""
    letters = len(term.replace("...", ""))
    if letters > rank or (letters < rank and "..." not in term):
        raise fail(
            "shape-mismatch",
            f"einsum subscripts {text!r}: {term!r} names {letters} axes of an operand with {rank}",
        )
    return rank - letters


def is_view(subscripts):
    """Whether NumPy hands out a view: one operand, none of whose letters is summed over."""
    return len(subscripts.inputs) == 1 and set(subscripts.inputs[0]) == set(subscripts.output)


def letter_lengths(subscripts, kinds, words):
    """The length of each letter's axis in the result; those that meet must agree."""
    lengths: dict[str, Size] = {}
    owners: dict[str, str] = {}
    for term, kind, word in zip(subscripts.inputs, kinds, words, strict=True):
        own: dict[str, Size] = {}
        for letter, size in zip(term, kind.shape, strict=True):
            if letter in own:  # the diagonal of a square; no length is repeated here
                require_same(own[letter], size, _mismatch(letter, word, word), guard=True)
            own.setdefault(letter, size)
        for letter, size in own.items():
            best = lengths.setdefault(letter, 1)
            if best != 1 and size != 1:
                silent = may_be_one(best) or may_be_one(size)
                require_same(best, size, _mismatch(letter, owners[letter], word), guard=silent)
            if best == 1 or (isinstance(size, int) and size != 1):
                lengths[letter], owners[letter] = size, word
    return lengths


def _mismatch(letter, one, other):
    def message(m, n):
        where = f"{m} and {n} in {one}" if one == other else f"{m} in {one} and {n} in {other}"
        return f"`np.einsum`: the axes `{letter}` differ in length: {where}"

    return message


def _words():
    """The user's names of the operands."""
    return [
        f"`{item.name}`" if isinstance(item, Value) and item.kept else f"operand {k + 1}"
        for k, item in enumerate(argument("operands") or [])
    ]


def EINSUM(operands, subscripts, optimize=False):
    """np.einsum, with a number where NumPy hands out an array without axes."""
    return np.einsum(subscripts, *operands, optimize=optimize)[()]


def _samples():
    pairs: dict[str, list[tuple[int, ...]]] = {
        "ij,jk->ik": [(2, 3), (3, 4)], "i,i->": [(3,), (3,)], "i,j->ij": [(3,), (2,)],
        "ij,ij->": [(2, 3), (2, 3)], "bij,bjk->bik": [(2, 3, 4), (2, 4, 2)],
        "ii,i->i": [(3, 3), (3,)], "ii,jj->ij": [(2, 2), (3, 3)], "i,i->i": [(3,), (3,)],
        "ij,kj->ik": [(2, 3), (4, 3)], "ij,k->k": [(2, 3), (4,)], "ij,kl->jl": [(2, 3), (4, 2)],
        "i,ij,j->": [(2,), (2, 3), (3,)], "ij,jk,kl->il": [(2, 3), (3, 2), (2, 4)],
        "i,,i->i": [(3,), (), (3,)], "iij,jk->k": [(2, 2, 3), (3, 2)],
        "iii,i->i": [(2, 2, 2), (2,)], "ij->": [(2, 3)], "ij->j": [(2, 3)], "ijk->ki": [(2, 3, 4)],
        "ii->": [(3, 3)], "iij->j": [(2, 2, 3)], "->": [()], ",->": [(), ()],
        # an axis of length 1 against a longer one of the same letter
        "ij,jl->il": [(2, 1), (3, 4)], "ij,jm->im": [(2, 3), (1, 4)], "ij,ik->jk": [(1, 3), (4, 2)],
        "ij,ij->i": [(2, 1), (2, 3)], "ij,ij->ij": [(1, 3), (2, 1)], "ab,b->": [(1, 1), (3,)],
        "aa,a->a": [(1, 1), (3,)], "aa,a->": [(3, 3), (1,)], "ab,cb,b->ac": [(2, 1), (3, 4), (1,)],
    }  # fmt: skip
    made = [call([A(*shape) for shape in shapes], text) for text, shapes in pairs.items()]
    single = [A(2, 3, dtype="float32"), A(3, dtype="float32")]
    return [
        *made,
        call([A(3), 2.0], "i,->i"),
        call([A(3), A(3, 2)], "i,ij->j", optimize=True),
        call([A(3), A(3)], "i,i->", optimize="greedy"),
        call(single, "ij,j->i"),
        call([single[0], A(3)], "ij,j->i"),
        call([A(3, dtype="float32"), A()], "i,->i"),
    ]


@primitive(EINSUM, name="einsum", text="np.einsum", samples=_samples)
def _(operands, /, subscripts, optimize=False):
    require_arrays("np.einsum", *operands)
    letters = Subscripts.read(subscripts)
    lengths = letter_lengths(letters, operands, _words())
    return make(joint_dtype(*operands), tuple(lengths[letter] for letter in letters.output))


@jvp(EINSUM)
def _(dots, y, operands, *, subscripts, optimize=False):
    total = None
    for k, dot in enumerate(dots[0]):
        if dot is not None:
            changed = [*operands[:k], dot, *operands[k + 1 :]]
            term = apply_function(EINSUM, (changed, subscripts), _options(optimize), y.builder)
            total = term if total is None else total + term
    return total


@vjp(EINSUM)
def _(grad_y, y, operands, *, subscripts, optimize=False):
    letters = Subscripts.read(subscripts)
    cotangents = []
    for k, x in enumerate(operands):
        terms = list(zip(letters.inputs, operands, strict=True))
        terms[k] = letters.output, grad_y
        known = isinstance(x, Symbol)
        cotangents.append(_pulled(x, letters.inputs[k], terms, k, optimize) if known else None)
    return (cotangents,)


def _pulled(x, own, terms, k, optimize):
    """The cotangent of the operand `x` with letters `own`: `terms` hold grad_y in its place k.

    A letter of `x` alone has its cotangent repeated along the axis, a letter that `x` holds with
    length 1 and others with more has it summed, a letter that stands in `own` again has it on the
    diagonal.
    """
    longest = _longest(terms)
    units = [size == 1 for size in x.type.shape]
    target, places, squares, repeats = "", [], [], False
    for place, (letter, unit) in enumerate(zip(own, units, strict=True)):
        if letter in own[:place] and not unit:
            fresh = next(c for c in string.ascii_letters if c not in own + _all(terms) + target)
            squares.append((letter + fresh, unit_matrix(x, x.shape[place])))
            target += fresh
        elif letter in longest and not (unit and longest[letter] != 1):
            if letter in target:  # length 1 twice
                places.append(place)
                continue
            target += letter
            repeats |= longest[letter] == 1 and not unit and own.count(letter) == 1
        elif own.count(letter) > 1 and not unit:
            target += letter  # the diagonal stands for it
        else:
            places.append(place)
            repeats |= not unit
    result = _contracted(terms, squares, target, k, optimize, x.builder)
    if rank_of(x) == 0:
        return result
    if rank_of(result) == 0:
        return np.broadcast_to(result, x.shape) if isinstance(result, Symbol) else result
    if places:
        result = np.expand_dims(result, tuple(places) if len(places) > 1 else places[0])
    return np.broadcast_to(result, x.shape) if repeats else result


def _all(terms):
    return "".join(letters for letters, _ in terms)


def _longest(terms):
    """The length of every letter of some operands: 1 only if it is 1 in all of them."""
    found: dict[str, Size] = {}
    for letters, x in terms:
        shape = x.type.shape if letters else ()  # a plain number has no letters
        for letter, size in zip(letters, shape, strict=True):
            if found.get(letter, 1) == 1:
                found[letter] = size
    return found


def _contracted(terms, squares, target, k, optimize, builder):
    """The einsum of `terms` and unit matrices; a number in place k stands outside as a factor."""
    letters, grad_y = terms[k]
    if letters == "":
        rest = [*terms[:k], *terms[k + 1 :], *squares]
        if not rest:
            return grad_y
        return grad_y * einsum_of(rest, target, optimize, builder)
    return einsum_of([*terms, *squares], target, optimize, builder)


def einsum_of(terms, target, optimize, builder):
    """The einsum of pairs of letters and operands that leaves the letters `target`."""
    letters = Subscripts(tuple(one for one, _ in terms), target)
    operands = [x for _, x in terms]
    if is_view(letters) and isinstance(operands[0], Symbol):
        return view_of(letters, operands[0])
    return apply_function(EINSUM, (operands, str(letters)), _options(optimize), builder)


def view_of(letters, x):
    """The axes of `x` in another order, or a diagonal of it."""
    (own,), target = letters.inputs, letters.output
    if len(set(own)) < len(own):
        return apply_function(EINSUM_VIEW, (x, str(letters)), {}, x.builder)
    if own == target:
        return x
    if x.ndim == 2:
        return x.T
    return np.transpose(x, tuple(own.index(letter) for letter in target))


def _options(optimize):
    return {"optimize": optimize} if optimize else {}


def EINSUM_VIEW(x, subscripts):
    """np.einsum of one array with nothing to sum: a view of it."""
    return np.einsum(subscripts, x)


@primitive(
    EINSUM_VIEW,
    name="einsum",
    text="np.einsum",
    alias="x",
    samples=lambda: [
        call(A(3, 3), "ii->i"), call(A(2, 3, 2), "iji->ij"), call(A(2, 2, 2), "iii->i"),
        call(A(2, 3, 2, 3), "abab->ba"), call(A(1, 1), "ii->i"), call(A(1, 1, 3), "iij->ji"),
        call(A(2, 2, dtype="float32"), "ii->i"), call(A(2, 3), "ij->ji"),
    ],
)  # fmt: skip
def _(x, /, subscripts):
    letters = Subscripts.read(subscripts)
    lengths = letter_lengths(letters, [x], [named("x")])
    return make(x.dtype, tuple(lengths[letter] for letter in letters.output))


linear(EINSUM_VIEW)


@vjp(EINSUM_VIEW)
def _(grad_y, y, x, *, subscripts):
    letters = Subscripts.read(subscripts)
    return _pulled(x, letters.inputs[0], [(letters.output, grad_y)], 0, False)


@composite(np.einsum)
def _(subscripts, *operands, optimize=False):
    if not isinstance(subscripts, str):
        raise fail(
            "unsupported-call",
            "`np.einsum` with lists of axes",
            'name the axes by letters: np.einsum("ij,jk->ik", a, b)',
        )
    if not isinstance(optimize, bool | str):
        raise fail("unsupported-argument", "the contraction path of `np.einsum`", "optimize=True")
    symbols = [x for x in operands if isinstance(x, Symbol)]
    letters = written_out(subscripts, [rank_of(x) for x in operands])
    terms = list(zip(letters.inputs, operands, strict=True))
    return einsum_of(terms, letters.output, optimize, symbols[0].builder)
