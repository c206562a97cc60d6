"""The passes with which Numba compiles generated functions.

    dispatcher._compiler.pipeline_class = FastCompiler

They are Numba's own, with less repetition, and make the same machine code:

- which overload of `*` two numbers have is looked up once in a function, not for every product;
- `np.sin(x)` of a number calls the kernel of the ufunc; Numba puts a loop of one trip around it,
  and LLVM's passes over loops are quadratic in the number of loops;
- some functions have short implementations here (numba_lean.py), where Numba compiles dozens of
  small functions;
- passes that would change nothing are left out, as each lists the variables of all statements, and
  the others list them with less work (numba_variables.py);
- what is linked into its callers is optimised and made machine code there, and only there.

Where something of this fails, as it may with another release of Numba, Numba's own passes compile
the function.
"""

from __future__ import annotations

import dis
import re
from collections.abc import Callable
from types import CodeType
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numba.core import ir, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import AnalysisPass, register_pass
from numba.core.cpu import CPUContext
from numba.core.environment import lookup_environment
from numba.core.errors import TypingError
from numba.core.typed_passes import NativeLowering, NopythonRewrites, PreLowerStripPhis
from numba.core.typing import signature
from numba.core.typing.context import Context
from numba.core.untyped_passes import InlineClosureLikes, ReconstructSSA
from numba.np import arrayobj, npyimpl

import flatgrad.backends.numba_numbers
import flatgrad.backends.numba_products  # noqa: F401  (both add to LEAN)
from flatgrad.backends.numba_borrowed import BorrowingLower
from flatgrad.backends.numba_free import mark_innermost_loops
from flatgrad.backends.numba_lean import LEAN, Lean
from flatgrad.backends.numba_variables import quick_lists
from flatgrad.backends.numba_width import use_wide_vectors, widens_singles
from flatgrad.backends.numba_workspace import OURS, OURS_MODEST, use_workspace
from flatgrad.collector import paused

NUMBERS = types.Number, types.Boolean, types.Literal

CACHE_LINE = 64
"""Bytes; also those of the widest vector."""


class FastTyping(Context):
    """Numba's context for types, which remembers the calls of one function.

    It is made for each function that is compiled, and shares the registries with Numba's.
    """

    __slots__ = ("calls",)

    def __init__(self, context: Context) -> None:
        self.__dict__ = context.__dict__
        self.calls: dict[Any, Any] = {}

    def resolve_value_type(self, val: Any) -> Any:
        """The type of a global."""
        if val is NUMBAS_MISFIT and val is not None:
            return MISFIT
        return super().resolve_value_type(val)

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        """The signature of a call, of which the types of the arguments are known."""
        lean = _lean(func)
        if lean is not None:
            bound = isinstance(func, types.BoundFunction)
            found = lean.sign((func.this, *args) if bound else args, kws)
            if found is not None and bound:
                this, *others = found.args
                return signature(found.return_type, *others, recvr=this)
            if found is not None:
                return found
        if kws or not all(isinstance(kind, NUMBERS) for kind in args):
            return super().resolve_function_type(func, args, kws)
        key = func, tuple(args)
        found = self.calls.get(key)
        if found is None:
            found = super().resolve_function_type(func, args, kws)
            if not isinstance(func, types.Dispatcher):  # it may be calling itself
                self.calls[key] = found
        return found


class MisfitType(types.Callable, types.Opaque):
    """The type of what raises the error of `a[:, i] = b` if the shapes differ.

    Numba's compiles what writes numbers into the text of a message, which takes seconds.
    """

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """It takes the lengths of both."""
        return signature(types.none, *args)

    def get_call_signatures(self) -> tuple[tuple[Any, ...], bool]:
        """Any number of lengths."""
        return (), True

    def get_impl_key(self, sig: Any) -> Any:
        """There is one implementation."""
        return self

    @staticmethod
    def lower(context: Any, builder: Any) -> None:
        """Write what raises it."""
        message = "cannot assign slice from input of different size"
        context.call_conv.return_user_exc(builder, ValueError, (message,))


MISFIT = MisfitType("flatgrad.misfit")
NUMBAS_MISFIT = getattr(arrayobj, "raise_with_shape_context", None)


def _lean(function: Any) -> Lean | None:
    """The short implementation of a function, a method or an operator, if there is one."""
    named = isinstance(function, types.Function | types.BoundFunction)
    return LEAN.get(function.typing_key if named else function)


class FastContext(CPUContext):
    """Numba's context for code, with other implementations of some functions."""

    def get_function(self, fn: Any, sig: Any, _firstcall: bool = True) -> Any:
        """What writes the instructions of a call."""
        if fn is MISFIT:
            return lambda builder, args, loc=None: MISFIT.lower(self, builder)
        lean = _lean(fn)
        if lean is not None and lean.sign(sig.as_function().args, {}) is not None:
            return lambda builder, args, loc=None: lean.lower(self, builder, sig, args)
        if isinstance(fn, types.Function) and _is_ufunc_of_numbers(fn.typing_key, sig):
            return lambda builder, args, loc=None: _kernel(self, builder, fn.typing_key, sig, args)
        return super().get_function(fn, sig, _firstcall)

    def get_preferred_array_alignment(self, ty: Any) -> int:
        """Arrays begin with a cache line, so that no vector of a row lies in two of them."""
        return CACHE_LINE

    def get_executable(self, library: Any, fndesc: Any, env: Any) -> Any:
        """The function as Python calls it, or a mark for one that Python does not call.

        The environments of its parts, the Python objects that their code refers to, are set where
        the machine code is.
        """
        if isinstance(library, PartLibrary):
            return object()
        entry = super().get_executable(library, fndesc, env)
        for name in [one.name for one in library._final_module.global_variables]:
            found = lookup_environment(name) if "NumbaEnv" in name else None
            if found is not None and library.codegen._engine.get_global_value_address(name):
                library.codegen.set_env(name, found)
        return entry


def _is_ufunc_of_numbers(function: Any, sig: Any) -> bool:
    """Whether a call is one of a NumPy function, with numbers alone."""
    return (
        isinstance(function, np.ufunc)
        and function.nout == 1
        and len(sig.args) == function.nin
        and all(isinstance(kind, types.Integer | types.Float | types.Boolean) for kind in sig.args)
    )


def _kernel(context: Any, builder: Any, ufunc: Any, sig: Any, args: Any) -> Any:
    """The instructions of a NumPy function of numbers, without a loop around them."""
    kernel = npyimpl._ufunc_db_function(ufunc)(context, builder, sig)
    return kernel.generate(*args)


class PartLibrary(JITCodeLibrary):
    """Code that is linked into that of its callers, and is optimised there."""

    is_part = True

    @classmethod
    def of_bitcode(cls, codegen: Any, name: str, bitcode: bytes) -> PartLibrary:
        """Code that another process has brought together."""
        made = cls(codegen, name)
        made._final_module = llvm.parse_bitcode(bitcode)
        made._finalized = True
        return made

    def finalize(self) -> None:
        """Bring together what belongs to it."""
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._final_module.verify()
        self._finalize_dynamic_globals()
        self._finalized = True


class KeepingLibrary(JITCodeLibrary):
    """Code whose arrays have memory that is kept from call to call."""

    allocate = OURS

    def _optimize_final_module(self) -> None:
        use_workspace(self._final_module, self.allocate)
        super()._optimize_final_module()


class ModestLibrary(KeepingLibrary):
    """The same for all but large arrays."""

    allocate = OURS_MODEST


KEEPING = {"all": KeepingLibrary, "modest": ModestLibrary}


ROLE = "many trips at a time; the arrays that are written share no memory with others"
"""The text that stands in a function of which that is true, as `codegen/apart.py` writes it."""


class FastLower(BorrowingLower):
    """Writes instructions; what `*` of two types is, it looks up once."""

    def setup_function(self, fndesc: Any) -> None:
        """LLVM asks no more which arrays overlap, where a function says that none does."""
        super().setup_function(fndesc)
        if widens_singles(fndesc.calltypes.values()):
            use_wide_vectors(self.function)
        if self.func_ir.func_id.func.__doc__ != ROLE:
            return
        use_wide_vectors(self.function)
        data = re.compile(r"arg\.\w+\.4")  # the fifth field of an array, by Numba's names
        for one in self.function.args:
            if data.fullmatch(one.name) and one.type.is_pointer:
                one.add_attribute("noalias")

    def init(self) -> None:
        """Called by Numba before anything is written."""
        super().init()
        self.operators: dict[Any, Any] = {}
        self.loops: dict[int, int] = getattr(self.func_ir.func_id.func, "free_loops", {})
        self.checks = self.context.enable_boundscheck

    def lower_normal_function(self, fndesc: Any) -> None:
        """Write the function."""
        super().lower_normal_function(fndesc)
        short = getattr(self.func_ir.func_id.func, "has_short_loops", None)
        if short is not None:
            mark_innermost_loops(self.function, short=short)
        elif self.loops:
            heads = {self.blkmap[k] for k, one in self.blocks.items() if one.loc.line in self.loops}
            mark_innermost_loops(self.function, short=True, heads=heads)

    def lower_inst(self, inst: Any) -> None:
        """Write a statement; in loops with indices that are right, without asking."""
        if self.loops:
            line = inst.loc.line
            right = any(first < line <= last for first, last in self.loops.items())
            self.context.enable_boundscheck = self.checks and not right
        super().lower_inst(inst)

    def lower_binop(self, resty: Any, expr: Any, op: Any) -> Any:
        """An operator; those with an operand that is known, `x ** 2`, are left to Numba."""
        if not (expr.static_lhs is ir.UNDEFINED and expr.static_rhs is ir.UNDEFINED):
            return super().lower_binop(resty, expr, op)
        sig = self.fndesc.calltypes[expr]
        key = op, tuple(sig.args)
        if key not in self.operators:
            typing = self.context.typing_context
            kind = typing.resolve_value_type(op)
            found = typing.resolve_function_type(kind, sig.args, {})
            self.operators[key] = self.context.get_function(kind, found)
        values = []
        for one, wanted in zip((expr.lhs, expr.rhs), sig.args, strict=True):
            value = self.loadvar(one.name)
            values.append(self.context.cast(self.builder, value, self.typeof(one.name), wanted))
        result = self.operators[key](self.builder, values)
        return self.context.cast(self.builder, result, sig.return_type, resty)


@register_pass(mutates_CFG=False, analysis_only=True)
class UseFastContexts(AnalysisPass):
    """Puts the contexts of this module in the place of Numba's; each function has copies."""

    _name = "flatgrad_use_fast_contexts"

    def __init__(self) -> None:
        AnalysisPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """Nothing of the function is changed."""
        state.typingctx = FastTyping(state.typingctx)
        state.targetctx.__class__ = FastContext
        state.targetctx.typing_context = state.typingctx
        if state.flags.no_cpython_wrapper:
            state.library = PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
            state.library.enable_object_caching()
        elif kept := getattr(state.func_id.func, "keeps_memory", ""):
            name = state.func_id.func_qualname
            state.library = KEEPING[kept](state.targetctx.codegen(), name)
            state.library.enable_object_caching()
        return False


@register_pass(mutates_CFG=True, analysis_only=False)
class FastLowering(NativeLowering):
    """Writes instructions with `FastLower`."""

    _name = "flatgrad_native_lowering"

    @property
    def lowering_class(self) -> Any:
        """The class that does it."""
        return FastLower


class Where:
    """A pass of Numba's that is left out where it would change nothing."""

    is_needed: Callable[[Any], bool]

    def run_pass(self, state: Any) -> bool:
        """Run it where it is needed."""
        if not self.is_needed(state):
            return False
        return bool(super().run_pass(state))  # type: ignore[misc]


@register_pass(mutates_CFG=True, analysis_only=False)
class Closures(Where, InlineClosureLikes):
    """Functions and comprehensions inside the function."""

    _name = "flatgrad_inline_closure_likes"

    @staticmethod
    def is_needed(state: Any) -> bool:
        code = state.func_id.func.__code__
        inside = any(isinstance(one, CodeType) for one in code.co_consts)
        return inside or dis.opmap["LIST_APPEND"] in code.co_code[::2]


@register_pass(mutates_CFG=True, analysis_only=False)
class Versions(Where, ReconstructSSA):
    """A name for each assignment: straight code in which each name is assigned once has that."""

    _name = "flatgrad_reconstruct_ssa"

    @staticmethod
    def is_needed(state: Any) -> bool:
        found = state.func_ir._definitions.values()
        return len(state.func_ir.blocks) > 1 or any(len(several) > 1 for several in found)


@register_pass(mutates_CFG=True, analysis_only=False)
class Choices(Where, PreLowerStripPhis):
    """Choices between assignments, which straight code has not."""

    _name = "flatgrad_strip_phis"

    @staticmethod
    def is_needed(state: Any) -> bool:
        return len(state.func_ir.blocks) > 1 or state.func_ir.generator_info is not None


@register_pass(mutates_CFG=True, analysis_only=False)
class ArrayExpressions(Where, NopythonRewrites):
    """One loop for an expression of arrays."""

    _name = "flatgrad_nopython_rewrites"

    @staticmethod
    def is_needed(state: Any) -> bool:
        return any(isinstance(kind, types.ArrayCompatible) for kind in state.typemap.values())


IN_PLACE_OF: dict[Any, Any] = {
    NativeLowering: FastLowering,
    InlineClosureLikes: Closures,
    ReconstructSSA: Versions,
    PreLowerStripPhis: Choices,
    NopythonRewrites: ArrayExpressions,
}


class FastCompiler(Compiler):
    """The pipeline of one function."""

    strict = False
    """Whether what fails here is raised, as the tests want it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.given = args

    def define_pipelines(self) -> list[Any]:
        """Numba's passes, with those of this module in their places."""
        pipelines = super().define_pipelines()
        for pipeline in pipelines:
            pipeline.passes = [
                (UseFastContexts, "contexts of generated code"),
                *[(IN_PLACE_OF.get(one, one), what) for one, what in pipeline.passes],
            ]
        return pipelines

    def compile_extra(self, func: Any) -> Any:
        """Compile a Python function; by Numba's own passes if these fail."""
        with paused(), quick_lists():
            try:
                return super().compile_extra(func)
            except TypingError:
                raise
            except Exception:
                if self.strict:
                    raise
                return Compiler(*self.given).compile_extra(func)
