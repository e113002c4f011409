"""What a kernel or an operation is for, told by its name: the classes of an iteration's time.

Names of GPU kernels are those of cuDNN, cuBLAS (CUTLASS, nvjet), PyTorch, Triton, NCCL, of
digan's library and of the original's plugins. Names of operations are PyTorch's on the host.
The first pattern that is found in a name decides; a name that none is found in is `other`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CLASSES: dict[str, str] = {
    "convolution": "convolutions",
    "matrix": "matrix products: digan's linear layers, BLAS",
    "pointwise": "pointwise work and sums: bias_act, losses, augmentation",
    "fir": "FIR resampling",
    "features": "weights and features: modulation, Fourier features",
    "optimiser": "optimiser and average",
    "copy": "copies, casts and fills",
    "draws": "random numbers",
    "communication": "communication of GPUs",
    "other": "other: in no class",
    "idle": "idle",
}
COLOURS = {
    "convolution": "#0072b2", "matrix": "#009e73", "pointwise": "#e69f00", "fir": "#cc79a7",
    "features": "#56b4e9", "optimiser": "#d55e00", "copy": "#f0e442", "draws": "#8c6bb1",
    "communication": "#000000", "other": "#8c8c8c", "idle": "#d0d0d0",
}  # fmt: skip

_KERNELS = [
    ("communication", r"nccl"),
    # Ours and the original's, before the words that also stand in others' template arguments.
    ("fir", r"fir_resample|upfirdn2d"),
    ("features", r"fourier_features|factorized_modulation"),
    ("matrix", r"modulated_linear|coord_linear|coord_chain|digan::gemm"),
    ("pointwise", r"bias_act|sum_parts|frames_to_uint8"),
    ("copy", r"Memcpy|Memset|nchwToNhwc|nhwcToNchw|nchw2nhwc|nhwc2nchw|tensorTransform"),
    ("copy", r"CatArrayBatchedCopy|FillFunctor|fill_kernel|copy_kernel|CopyFunctor|Copy<"),
    ("copy", r"^triton_\w*_fused_(_?(to_)?(copy|clone|contiguous)_?)+\d*$"),
    ("draws", r"distribution_|philox|curand|random_from_to|randperm"),
    ("convolution", r"[fdw]grad|fprop|winograd|implicit_convolve|implicit_gemm|conv\w*2d|convolve"),
    ("convolution", r"cudnn|im2col|col2im|vol2col|col2vol|convolution"),
    ("optimiser", r"[Aa]dam|LerpFunctor|multi_tensor_apply_kernel.*(PointwiseOp|Lerp)"),
    ("matrix", r"[gG][eE][mM][mMvV]|cutlass|nvjet|cublas|splitK|triton_tem|triton_mm"),
    ("matrix", r"\bdot_kernel|reduce_1Block"),
    ("pointwise", r"elementwise_kernel|reduce_kernel|multi_tensor_apply_kernel|^triton_"),
    ("pointwise", r"softmax|layer_norm|scan|index_|gather|scatter|grid_sampler|flip|roll_cuda"),
]
_OPS = [
    ("communication", r"nccl|c10d::|gloo:"),
    ("fir", r"digan::fir_resample"),
    ("features", r"digan::(fourier_features|factorized_modulation)"),
    ("matrix", r"digan::(modulated_linear|coord_linear|coord_chain)"),
    ("pointwise", r"digan::"),
    ("optimiser", r"^Optimizer\.|_fused_adam|_foreach_lerp"),
    ("convolution", r"::\w*conv(olution|_|[23]d|\w*_backward|$)"),
    (
        "matrix",
        r"::(mm|bmm|addmm|baddbmm|matmul|linear|addmv|mv|dot|einsum|outer|_linear_pointwise)",
    ),
    ("matrix", r"::(mkldnn_linear|linear_backward|_mkldnn_linear|inner)"),
    ("copy", r"::(copy_|_foreach_copy_|to$|_to_copy|contiguous|clone|cat$|stack|constant_pad_nd)"),
    ("copy", r"::(fill_|zero_|_foreach_zero_|pin_memory|_pin_memory|repeat|to_mkldnn|to_dense)"),
    ("copy", r"::mkldnn_reorder\w*|::(zeros|ones|full|zeros_like|ones_like|new_zeros|masked_fill)"),
    ("draws", r"::(normal_|uniform_|random_|randn|rand|randint|randperm|exponential_|bernoulli)"),
    (
        "pointwise",
        r"::(add|sub|rsub|mul|div|neg|abs|sqrt|rsqrt|square|pow|exp|log|sin|cos|tanh)_?$",
    ),
    ("pointwise", r"::(sigmoid|softplus|silu|gelu|relu|leaky_relu|hardtanh|clamp|clip)\w*$"),
    ("pointwise", r"::(sum|mean|var|std|norm|linalg_vector_norm|_foreach_norm|max|min|amax|amin)"),
    ("pointwise", r"::(isfinite|isnan|nan_to_num|where|eq|ne|lt|le|gt|ge|logical_\w+|all|any)_?$"),
    ("pointwise", r"::(bitwise_\w+|maximum|minimum|reciprocal|floor|ceil|round|sign|cumsum)_?$"),
    ("pointwise", r"::(addcmul|addcdiv|lerp|threshold_backward|_foreach_\w+|gather|index\w*)_?$"),
    ("pointwise", r"::(upsample_\w+|grid_sampler\w*|sort|embedding\w*|arange|polar|complex|atan2)"),
    ("pointwise", r"::(\w*softmax\w*|threshold|binary_cross_entropy\w*|flip|scatter\w*)_?$"),
]
# Work inside of these belongs to them, whatever it is made of.
_SCOPES = re.compile(
    r"digan::(fir_resample|factorized_modulation|fourier_features|bias_act)"
    r"|^Optimizer\.|_fused_adam|upfirdn2d"
)
# They move no number: their time is the host's.
_BOOKKEEPING = re.compile(
    r"::(empty\w*|view\w*|reshape|_reshape_alias|permute|transpose|t|as_strided|slice|select|expand"
    r"\w*|detach\w*|unsqueeze|squeeze|unbind|split\w*|chunk|narrow|resize_|set_|alias|movedim"
    r"|flatten|unflatten|new_empty\w*|result_type|is_nonzero|lift_fresh|_unsafe_view|numpy_T|mT"
    r"|_local_scalar_dense|item|record_stream|broadcast_tensors|_version|requires_grad_?)$"
)


def _compiled(table: list[tuple[str, str]]) -> list[tuple[str, re.Pattern[str]]]:
    return [(kind, re.compile(pattern)) for kind, pattern in table]


_KERNEL_TABLE, _OP_TABLE = _compiled(_KERNELS), _compiled(_OPS)


def kernel_class(name: str) -> str | None:
    """The class of a GPU kernel or GPU copy; None where its name says nothing."""
    return next((kind for kind, pattern in _KERNEL_TABLE if pattern.search(name)), None)


def op_class(name: str) -> str | None:
    """The class of an operation on the host; None where its name says nothing."""
    return next((kind for kind, pattern in _OP_TABLE if pattern.search(name)), None)


@dataclass(frozen=True)
class Place:
    """What the time of an operation counts as, given what it is called inside of.

    Attributes:
        own: the class of its own time, outside of what it calls; `idle` is the host's.
        inner: the class that operations inside of it take, unless they have one.
        closed: they have none: all inside belongs to this one.
    """

    own: str
    inner: str | None
    closed: bool = False


ROOT = Place("idle", None)
"""Outside of every operation."""


def place(name: str, outer: Place, calls_others: bool) -> Place:
    """Where an operation's time goes.

    Args:
        name: of the operation. outer: of what calls it.
        calls_others: it has operations inside. The own time of a digan op or an optimiser that
            has is Python's, as is that of autograd's functions and engine.
    """
    python = calls_others and name.startswith(("digan::", "Optimizer."))
    engine = name.startswith(("autograd::", "torch::autograd"))
    if python or engine or ("::" not in name and not name.startswith("Optimizer.")):
        own = "idle"
    else:
        own = ""
    if outer.closed:
        return Place(own or outer.inner or "other", outer.inner, True)
    kind = None if engine else op_class(name)
    if kind is not None:
        if outer.inner == "convolution" and kind == "matrix":
            kind = "convolution"  # a convolution that is done as a matrix product
        return Place(own or kind, kind, bool(_SCOPES.search(name)))
    if own:
        return Place(own, outer.inner)  # the engine, and Python's autograd functions
    if _BOOKKEEPING.search(name):
        return Place(outer.inner or "idle", outer.inner)
    return Place(outer.inner or "other", outer.inner)
