"""The memory of temporaries, kept from one call to the next.

    tape = np.empty((n, 1000))      a block that the call before has given back, if there is one

What calls with `out=` allocate comes from here: tapes, activations, adjoints. An array's reference
count says when its block is free, as for any array of Numba's, so that nothing must be known of
the program: what is returned keeps its block for as long as somebody holds it, calls in other
threads take other blocks, and a loop takes the same ones in each trip.

Sizes have classes, four for each power of two, and each class a list of free blocks. A block may be
taken for what is more than half as large. Before a new one is asked for from the system, free ones
go back to it until no more than twice as much is held as has been in use at one time.

Loops over blocks of samples have their temporaries from here in every call, as they make the same
arrays for block after block; what is larger than `MODEST` comes from the system there.

Nobody waits: a thread that finds the lists locked has its memory from the system, and gives it
back there.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from numba.core.runtime import _nrt_python  # type: ignore[attr-defined]

NUMBAS = "NRT_MemInfo_alloc_aligned"
OURS = "flatgrad_alloc_aligned"
OURS_MODEST = "flatgrad_alloc_modest"
"""The functions that code calls for an array: Numba's, and ours with the same parameters."""

MODEST = 1 << 22
"""The largest array of a loop over blocks for which memory is kept, in bytes."""

# A block begins 16 bytes behind a multiple of 64, so that the data behind the 48 bytes of Numba's
# header are aligned. In front of it stand its place in the memory of the system, its size and its
# class; of those that are free, the first word is the next of the list.
TEXT = """
@flatgrad_taken = global i64 0
@flatgrad_asked = global i64 0
@flatgrad_held = global i64 0
@flatgrad_free = global i64 0
@flatgrad_most = global i64 0
@flatgrad_numba = global ptr null
@lock = internal global i64 0
@lists = internal global [256 x ptr] zeroinitializer
@allocator = internal global { ptr, ptr, ptr, ptr }
  { ptr @take, ptr null, ptr @give, ptr inttoptr (i64 70368744177664 to ptr) }
@modest = internal global { ptr, ptr, ptr, ptr }
  { ptr @take, ptr null, ptr @give, ptr inttoptr (i64 MODEST to ptr) }

declare ptr @PyMem_RawMalloc(i64)
declare void @PyMem_RawFree(ptr)
declare i64 @llvm.ctlz.i64(i64, i1)
declare i64 @llvm.umax.i64(i64, i64)

; Memory for an array, with Numba's header.
define ptr @flatgrad_alloc_aligned(i64 %size, i32 %align) {
  %numbas = load ptr, ptr @flatgrad_numba
  %array = tail call ptr %numbas(i64 %size, ptr @allocator)
  ret ptr %array
}

; The same, where a large array has its memory from the system.
define ptr @flatgrad_alloc_modest(i64 %size, i32 %align) {
  %numbas = load ptr, ptr @flatgrad_numba
  %array = tail call ptr %numbas(i64 %size, ptr @modest)
  ret ptr %array
}

; Give back to the system what nobody uses, and forget how much was in use.
define void @flatgrad_drop() {
  %ours = call i1 @lock_lists()
  br i1 %ours, label %drop, label %end
drop:
  call void @free_until(i64 0)
  %held = load atomic i64, ptr @flatgrad_held monotonic, align 8
  store i64 %held, ptr @flatgrad_most
  call void @unlock_lists()
  br label %end
end:
  ret void
}

; A block of at least this size, or null. The second parameter is the limit of what is kept.
define internal ptr @take(i64 %wanted, ptr %limit) {
  %size = call i64 @llvm.umax.i64(i64 %wanted, i64 256)
  %last = sub i64 %size, 1
  %zeros = call i64 @llvm.ctlz.i64(i64 %last, i1 true)
  %power = sub i64 63, %zeros
  %shift = sub i64 %power, 2
  %quarters = lshr i64 %last, %shift
  %quarter = and i64 %quarters, 3
  %doubled = shl i64 %power, 2
  %class = or i64 %doubled, %quarter
  %up = add i64 %quarters, 1
  %whole = shl i64 %up, %shift
  %most = ptrtoint ptr %limit to i64
  %small = icmp ult i64 %wanted, %most
  br i1 %small, label %try, label %system
try:
  %ours = call i1 @lock_lists()
  br i1 %ours, label %look, label %system
look:
  %k = phi i64 [ %class, %try ], [ %next, %none ]
  %list = getelementptr [256 x ptr], ptr @lists, i64 0, i64 %k
  %first = load ptr, ptr %list
  %empty = icmp eq ptr %first, null
  br i1 %empty, label %none, label %found
none:
  %next = add i64 %k, 1
  %end = add i64 %class, 4
  %over = icmp eq i64 %next, %end
  br i1 %over, label %make, label %look
found:
  call void @unlink(ptr %first, ptr %list)
  br label %done
make:
  %made = call ptr @make(i64 %whole, i64 %class)
  br label %done
done:
  %block = phi ptr [ %first, %found ], [ %made, %make ]
  call void @add(ptr @flatgrad_taken, i64 1)
  call void @unlock_lists()
  ret ptr %block
system:
  %other = call ptr @system_block(i64 %wanted, i64 -1)
  ret ptr %other
}

; A block is no longer used.
define internal void @give(ptr %block, ptr %unused) {
  %place = getelementptr i8, ptr %block, i64 -8
  %class = load i64, ptr %place
  %pooled = icmp sge i64 %class, 0
  br i1 %pooled, label %try, label %system
try:
  %size = call i64 @size(ptr %block)
  %ours = call i1 @lock_lists()
  br i1 %ours, label %keep, label %late
keep:
  %list = getelementptr [256 x ptr], ptr @lists, i64 0, i64 %class
  %first = load ptr, ptr %list
  store ptr %first, ptr %block
  store ptr %block, ptr %list
  call void @add(ptr @flatgrad_free, i64 %size)
  call void @unlock_lists()
  ret void
late:
  %less = atomicrmw sub ptr @flatgrad_held, i64 %size monotonic
  br label %system
system:
  call void @to_system(ptr %block)
  ret void
}

; A new block; free ones make room for it, all if the system has no more.
define internal ptr @make(i64 %size, i64 %class) {
  %held = load atomic i64, ptr @flatgrad_held monotonic, align 8
  %free = load i64, ptr @flatgrad_free
  %used = sub i64 %held, %free
  %needed = add i64 %used, %size
  %before = load i64, ptr @flatgrad_most
  %most = call i64 @llvm.umax.i64(i64 %before, i64 %needed)
  store i64 %most, ptr @flatgrad_most
  %twice = shl i64 %most, 1
  %rest = sub i64 %twice, %needed
  call void @free_until(i64 %rest)
  %first = call ptr @system_block(i64 %size, i64 %class)
  %failed = icmp eq ptr %first, null
  br i1 %failed, label %again, label %done
again:
  call void @free_until(i64 0)
  %second = call ptr @system_block(i64 %size, i64 %class)
  %lost = icmp eq ptr %second, null
  br i1 %lost, label %none, label %done
done:
  %block = phi ptr [ %first, %0 ], [ %second, %again ]
  %more = atomicrmw add ptr @flatgrad_held, i64 %size monotonic
  call void @add(ptr @flatgrad_asked, i64 1)
  ret ptr %block
none:
  ret ptr null
}

; Give free blocks back to the system, the largest first, until only so many bytes are free.
define internal void @free_until(i64 %rest) {
  br label %test
test:
  %k = phi i64 [ 255, %0 ], [ %k, %drop ], [ %next, %empty ]
  %free = load i64, ptr @flatgrad_free
  %enough = icmp ule i64 %free, %rest
  %over = icmp slt i64 %k, 0
  %stop = or i1 %enough, %over
  br i1 %stop, label %end, label %look
look:
  %list = getelementptr [256 x ptr], ptr @lists, i64 0, i64 %k
  %block = load ptr, ptr %list
  %none = icmp eq ptr %block, null
  br i1 %none, label %empty, label %drop
empty:
  %next = sub i64 %k, 1
  br label %test
drop:
  call void @unlink(ptr %block, ptr %list)
  %size = call i64 @size(ptr %block)
  %less = atomicrmw sub ptr @flatgrad_held, i64 %size monotonic
  call void @to_system(ptr %block)
  br label %test
end:
  ret void
}

; Take the first block out of its list.
define internal void @unlink(ptr %block, ptr %list) alwaysinline {
  %next = load ptr, ptr %block
  store ptr %next, ptr %list
  %size = call i64 @size(ptr %block)
  %less = sub i64 0, %size
  call void @add(ptr @flatgrad_free, i64 %less)
  ret void
}

define internal i64 @size(ptr %block) alwaysinline {
  %place = getelementptr i8, ptr %block, i64 -16
  %size = load i64, ptr %place
  ret i64 %size
}

define internal ptr @system_block(i64 %size, i64 %class) {
  %whole = add i64 %size, 128
  %memory = call ptr @PyMem_RawMalloc(i64 %whole)
  %failed = icmp eq ptr %memory, null
  br i1 %failed, label %none, label %some
some:
  %number = ptrtoint ptr %memory to i64
  %behind = add i64 %number, 87
  %even = and i64 %behind, -64
  %start = add i64 %even, 16
  %block = inttoptr i64 %start to ptr
  %class_place = getelementptr i8, ptr %block, i64 -8
  %size_place = getelementptr i8, ptr %block, i64 -16
  %memory_place = getelementptr i8, ptr %block, i64 -24
  store i64 %class, ptr %class_place
  store i64 %size, ptr %size_place
  store ptr %memory, ptr %memory_place
  ret ptr %block
none:
  ret ptr null
}

define internal void @to_system(ptr %block) {
  %place = getelementptr i8, ptr %block, i64 -24
  %memory = load ptr, ptr %place
  call void @PyMem_RawFree(ptr %memory)
  ret void
}

define internal void @add(ptr %place, i64 %number) alwaysinline {
  %before = load i64, ptr %place
  %after = add i64 %before, %number
  store i64 %after, ptr %place
  ret void
}

define internal i1 @lock_lists() alwaysinline {
  %found = cmpxchg ptr @lock, i64 0, i64 1 acquire monotonic
  %ours = extractvalue { i64, i1 } %found, 1
  ret i1 %ours
}

define internal void @unlock_lists() alwaysinline {
  store atomic i64 0, ptr @lock release, align 8
  ret void
}
"""


class Kept(NamedTuple):
    """Blocks that were taken, and how many of them were asked for from the system; bytes now."""

    taken: int
    asked: int
    held: int
    free: int
    most: int


class _Workspace(NamedTuple):
    """What is loaded: a function, and where the numbers of `Kept` are."""

    drop: Any
    numbers: list[Any]


_loaded: list[_Workspace] = []
_lock = threading.Lock()


def provide_workspace() -> None:
    """Make the function known to code that calls it."""
    with _lock:
        if _loaded:
            return
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        for name in ("PyMem_RawMalloc", "PyMem_RawFree"):
            function = getattr(ctypes.pythonapi, name)
            llvm.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)
        machine = llvm.Target.from_default_triple().create_target_machine(opt=2, jit=True)
        module = llvm.parse_assembly(TEXT.replace("MODEST", str(MODEST)))
        passes = llvm.create_new_module_pass_manager()
        passes.add_always_inliner_pass()
        options = llvm.create_pipeline_tuning_options(speed_level=1)
        passes.run(module, llvm.create_pass_builder(machine, options))
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        # Arrays may outlive what is freed at the end of Python.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
        table = ctypes.CFUNCTYPE(ctypes.c_void_p)(_nrt_python.c_helpers["get_api"])()
        allocate_external = ctypes.c_void_p.from_address(table + ctypes.sizeof(ctypes.c_void_p))
        numbas = ctypes.c_void_p.from_address(engine.get_global_value_address("flatgrad_numba"))
        numbas.value = allocate_external.value
        drop = ctypes.CFUNCTYPE(None)(engine.get_function_address("flatgrad_drop"))
        places = [engine.get_global_value_address(f"flatgrad_{name}") for name in Kept._fields]
        _loaded.append(_Workspace(drop, [*map(ctypes.c_int64.from_address, places)]))
        for name in (OURS, OURS_MODEST):
            llvm.add_symbol(name, engine.get_function_address(name))


def use_workspace(module: Any, allocate: str = OURS) -> None:
    """Let the machine code of a module allocate here, by one of our functions.

    Parts that other modules contain, too, get names of their own: of functions of one name the
    linker takes the first for all.
    """
    provide_workspace()
    for function in module.functions:
        if function.name == NUMBAS:
            function.name = allocate
        elif function.linkage == llvm.Linkage.linkonce_odr and not _is_numbas(function.name):
            function.name += ".keeps" if allocate == OURS else ".modest"


def _is_numbas(name: str) -> bool:
    """Whether a function counts references: LLVM is to find these by their names."""
    return name.startswith("NRT_")


def kept() -> Kept:
    """What was taken, and what is kept."""
    if not _loaded:
        return Kept(0, 0, 0, 0, 0)
    return Kept(*[one.value for one in _loaded[0].numbers])


def drop() -> None:
    """Give back to the system what no array uses."""
    if _loaded:
        _loaded[0].drop()
