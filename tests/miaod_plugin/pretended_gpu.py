"""A GPU for machines that have none: tensors that say they lie on it, refuse to mix with the CPU's and count reads.

`PretendedGPU` is a torch function mode. While it is entered, ``tensor.to("cuda:0")`` and ``torch.zeros(..., device=
"cuda:0")`` give tensors whose values are the CPU's and whose ``device`` is ``cuda:0``. An operation on one of them and
on a tensor of the CPU raises as it would on CUDA (tensors without dimensions, as good as numbers, may mix). Every wait
of the host for the device is counted: values that are read, shapes that depend on values, and numbers of Python's that
are copied to the device one by one.
"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

GPU, CPU = torch.device("cuda:0"), torch.device("cpu")
T = torch.Tensor
TO_HOST = {T.cpu, T.numpy, T.tolist, T.item, T.__bool__, T.__int__, T.__float__, T.__index__, T.__array__}
SHAPED_BY_VALUES = {
    *(torch.nonzero, T.nonzero, torch.argwhere, T.argwhere, torch.unique, T.unique),
    *(torch.masked_select, T.masked_select, torch.equal, T.equal, torch.allclose, T.allclose),
}
FROM_NUMBERS = {torch.tensor, torch.as_tensor, T.new_tensor}
BETWEEN_DEVICES = {T.copy_, torch._foreach_copy_}


class OnGPU(torch.Tensor):
    """A tensor that says it lies on `GPU`."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return _call(func, args, kwargs or {})


class PretendedGPU(TorchFunctionMode):
    """See the module; `waits` says how often the host waited for the device, by operation."""

    def __init__(self):
        super().__init__()
        self.waits: dict[str, int] = {}

    def __enter__(self):
        self._before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # parameters of the moved type, not their data
        return super().__enter__()

    def __exit__(self, *raised):
        torch.__future__.set_overwrite_module_params_on_conversion(self._before)
        return super().__exit__(*raised)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if _waits(func, args, kwargs):
            name = getattr(func, "__name__", str(func))
            self.waits[name] = self.waits.get(name, 0) + 1
        return _call(func, args, kwargs)

    def count(self) -> int:
        """Return how often the host waited since the last call."""
        total = sum(self.waits.values())
        self.waits.clear()
        return total


def _waits(func, args, kwargs) -> bool:
    if func in FROM_NUMBERS:
        numbers = not isinstance(args[0 if func is not T.new_tensor else 1], T)
        return numbers and (isinstance(args[0], OnGPU) or _place(kwargs.get("device")) == GPU)
    if not any(isinstance(tensor, OnGPU) for tensor in _tensors(func, args, kwargs)):
        return False
    if func is T.to:
        return _wanted(args, kwargs) == CPU
    if func in (T.__getitem__, T.__setitem__):
        by_mask = any(isinstance(index, T) and index.dtype == torch.bool for index in tree_leaves(args[1]))
        return by_mask and not (func is T.__setitem__ and not isinstance(args[2], T))  # a number fills without waiting
    if func in (torch.repeat_interleave, T.repeat_interleave):
        return "output_size" not in kwargs and isinstance(args[1] if len(args) > 1 else kwargs["repeats"], T)
    return func in TO_HOST or func in SHAPED_BY_VALUES or "torchvision.nms" in str(func)


def _call(func, args, kwargs):
    """Do what `func` does on the CPU, and let the result lie where it would."""
    with torch._C.DisableTorchFunctionSubclass():
        tells = {T.device.__get__: GPU, T.is_cuda.__get__: True, T.is_cpu.__get__: False}
        if func in tells and isinstance(args[0], OnGPU):
            return tells[func]
        if func is torch._has_compatible_shallow_copy_type:  # asked by Module.to
            return isinstance(args[0], OnGPU) == isinstance(args[1], OnGPU)
        if func in (T.to, T.cpu, T.cuda):
            return _move(func, args, kwargs)
        if func is T.__deepcopy__ and isinstance(args[0], OnGPU):
            return _copied(*args)
        tensors = _tensors(func, args, kwargs)
        on_gpu = any(isinstance(tensor, OnGPU) for tensor in tensors)
        if on_gpu and func not in BETWEEN_DEVICES and any(x.dim() for x in tensors if not isinstance(x, OnGPU)):
            name = getattr(func, "__name__", func)
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, found cuda:0 and cpu")
        if kwargs.get("device") is not None:
            on_gpu, kwargs = _place(kwargs["device"]) == GPU, kwargs | {"device": CPU}
        result = func(*args, **kwargs)
        return _on_gpu(result) if on_gpu and func not in TO_HOST else result


def _copied(tensor: OnGPU, memo: dict) -> OnGPU:
    """Return a deep copy of a leaf, a parameter of one."""
    copied = _on_gpu(tensor.detach().as_subclass(T).clone()).requires_grad_(tensor.requires_grad)
    copied._is_param = isinstance(tensor, torch.nn.Parameter)
    memo[id(tensor)] = copied
    return copied


def _tensors(func, args, kwargs) -> list[torch.Tensor]:
    """Return the tensors among the arguments; the memory of a deep copy is none of them."""
    return [leaf for leaf in tree_leaves(args[:1] if func is T.__deepcopy__ else (args, kwargs)) if isinstance(leaf, T)]


def _move(func, args, kwargs):
    """Do what ``to`` does beside moving, and put the result on the device that is wanted."""
    source, *rest = args
    wanted = {T.cpu: CPU, T.cuda: GPU}.get(func) or _wanted(args, kwargs)
    rest = [CPU if _place(value) else value for value in rest]
    kwargs = {name: CPU if name == "device" and value is not None else value for name, value in kwargs.items()}
    result = func(source, *rest, **kwargs) if func is T.to else source
    if wanted == GPU:
        return _on_gpu(result)
    return result.as_subclass(T) if isinstance(result, OnGPU) else result


def _wanted(args, kwargs) -> torch.device:
    """Return the device on which the result of ``to`` lies."""
    source, *rest = args
    for value in (kwargs.get("device"), *rest):
        if _place(value):
            return _place(value)
        if isinstance(value, T):
            return GPU if isinstance(value, OnGPU) else CPU
    return GPU if isinstance(source, OnGPU) else CPU


def _place(value) -> torch.device | None:
    """Return the device that an argument names, if it is one."""
    if isinstance(value, torch.device) or (isinstance(value, str) and value.split(":")[0] in ("cpu", "cuda")):
        return GPU if torch.device(value).type == "cuda" else CPU
    return None


def _on_gpu(result):
    return tree_map_only(T, lambda tensor: tensor if isinstance(tensor, OnGPU) else tensor.as_subclass(OnGPU), result)
