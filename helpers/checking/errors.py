"""Sentences about the errors that Python and torch raise most often in students' code."""

import re
from collections.abc import Callable
from re import Match

#: Patterns of "Type: text" and the sentence for it, which may use the pattern's groups.
_SENTENCES: tuple[tuple[str, str | Callable[[Match[str]], str]], ...] = (
    (
        r"mat1 and mat2 shapes cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)",
        lambda m: _linear(int(m[1]), int(m[2])),
    ),
    (
        r"expected input\[[\d, ]+\] to have (\d+) channels, but got (\d+) channels",
        r"A convolution that takes \1 channels is given \2.",
    ),
    (
        r"Expected 3D \(unbatched\) or 4D \(batched\) input to (\w+), but got input of size: "
        r"\[([\d, ]+)\]",
        r"A layer (\1) takes images (N, channels, height, width), but is given shape (\2).",
    ),
    (
        r"must have the same dtype, but got|expected scalar type|(Input|input) type .* (weight|bias"
        r") type|expected m1 and m2 to have the same dtype|Found dtype \w+ but expected",
        "Tensors of different dtypes meet: NumPy's numbers are float64 and labels are int64, the "
        "model's are float32. Convert them with .float().",
    ),
    (
        r"(UNet2DCondition|UNet)Output\b",
        "A U-Net returns an object: its prediction is `.sample`.",
    ),
    (
        r"SchedulerOutput\b",
        "A scheduler's step returns an object: the next latents are `.prev_sample`.",
    ),
    (r"DecoderOutput\b", "The VAE's decode returns an object: the images are `.sample`."),
    (
        r"AutoencoderKLOutput\b",
        "The VAE's encode returns an object: the distribution of the latents is `.latent_dist`.",
    ),
    (
        r"BaseModelOutput\w*\b",
        "The text encoder returns an object: the vectors are `.last_hidden_state`.",
    ),
    (
        r"'(float|int)' object has no attribute '(backward|sum|mean|item|detach)'",
        r"A plain number is used where a tensor is needed (`.\2`): `.item()` and `float()` come "
        r"too early, or twice.",
    ),
    (
        r"element 0 of tensors does not require grad",
        "backward() is called on a tensor without gradients: was it computed under "
        "torch.no_grad(), detached, or made from plain numbers?",
    ),
    (
        r"grad can be implicitly created only for scalar outputs",
        "backward() needs a single number: take the sum or the mean of the loss first.",
    ),
    (
        r"Trying to backward through the graph a second time",
        "A tensor of an earlier batch is part of this loss: add `.item()` to totals, and compute "
        "everything anew for each batch.",
    ),
    (
        r"modified by an inplace operation|leaf Variable that requires grad is being used in an "
        r"in-place|a view of a leaf Variable",
        "An operation in place (x += ..., x[...] = ..., relu_) overwrites a tensor that is needed "
        "for the gradient: make a new tensor.",
    ),
    (
        r"cannot unpack non-iterable NoneType|'NoneType' object (has no attribute|is not)|"
        r"for [-+*/@]+: '?(NoneType|.*'NoneType)",
        "Something is None where a value is needed: is a `return` missing?",
    ),
    (
        r"all elements of (input|target) should be between 0 and 1",
        "Binary cross-entropy takes values from 0 to 1: is the Sigmoid at the decoder's end "
        "missing, or are the arguments exchanged?",
    ),
    (
        r"view size is not compatible with input tensor's size and stride",
        "The numbers do not lie in this order in memory: use .reshape(...) in place of .view(...).",
    ),
    (
        r"shape '\[([-\d, ]+)\]' is invalid for input of size (\d+)",
        r"A tensor of \2 numbers cannot be brought into the shape (\1).",
    ),
    (
        r"Expected more than 1 value per channel when training",
        "BatchNorm in training mode needs more than one value for each channel.",
    ),
    (
        r"'tuple' object has no attribute '(\w+)'",
        r"A function returned several things, and `.\1` is used on all of them: unpack them first.",
    ),
    (
        r"Class values must be (smaller than num_classes|non-negative)",
        "one_hot takes numbers from 0 to num_classes - 1: do these count something else, or along "
        "another axis?",
    ),
    (
        r"Tensors must have same number of dimensions: got (\d+) and (\d+)",
        r"torch.cat joins tensors with \1 and with \2 axes: give them the same number of axes "
        r"first.",
    ),
    (
        r"Sizes of tensors must match except in dimension (\d+)\. Expected size (\d+) but got size "
        r"(\d+)",
        r"torch.cat joins tensors along axis \1, and along another axis one has size \2, the other "
        r"\3: is it the right axis?",
    ),
    (
        r"The size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\) at "
        r"non-singleton dimension (\d+)",
        r"Two tensors whose shapes do not fit are combined: along axis \3 one has size \1, the "
        r"other \2.",
    ),
    (
        r"[Tt]arget size \(torch\.Size\((\[[\d, ]*\])\)\) .* "
        r"input size \(torch\.Size\((\[[\d, ]*\])\)\)",
        r"The loss compares tensors of different shapes, \2 and \1: bring one into the shape of "
        r"the other.",
    ),
    (
        r"Expected size for first two dimensions of batch2 tensor to be: \[(\d+), (\d+)\] but got: "
        r"\[\d+, (\d+)\]",
        r"In a product of matrices, the first has \2 columns and the second \3 rows: is a "
        r"transpose missing?",
    ),
    (
        r"Boolean value of Tensor with more than one value is ambiguous",
        "A whole tensor is used as one condition: `if` needs a single number, and torch.where "
        "decides for each element.",
    ),
    (
        r"a Tensor with (\d+) elements cannot be converted to Scalar",
        r"`.item()` and `float()` take one number, and this tensor has \1: take the sum or the "
        r"mean first.",
    ),
    (
        r"too many values to unpack \(expected (\d+)|not enough values to unpack \(expected (\d+)",
        lambda m: (
            f"{m[1] or m[2]} names are on the left of `=`, and another number of values is on "
            "the right."
        ),
    ),
    (
        r"cannot assign (module|parameters?) before Module\.__init__\(\) call",
        "`super().__init__()` must be the first line of `__init__`.",
    ),
    (
        r"\w+ is not a Module subclass",
        "What stands in an nn.Sequential must be a layer: a class needs brackets, such as "
        "`nn.ReLU()`, and a function or an object of another kind cannot stand there.",
    ),
    (
        r"optimizer got an empty parameter list",
        "The optimizer is given no parameters: the model has none, because layers in a plain list "
        "or a dict are not registered, or `parameters()` was used up before.",
    ),
    (
        r"running_mean should contain (\d+) elements not (\d+)",
        r"A BatchNorm for \2 channels is given \1.",
    ),
    (
        r"'module' object is not callable",
        "A module is called like a function: `from tqdm import tqdm` imports the function, `import "
        "tqdm` the module around it.",
    ),
    (
        r"\.forward\(\) missing \d+ required positional arguments?: (.*)",
        r"A layer or a loss is called without \1.",
    ),
    (
        r"Kernel size can't be greater than actual input size",
        "A convolution's kernel is larger than the image that it is given: print the shapes along "
        "the way.",
    ),
    (
        r"'Tensor' object is not callable",
        "A tensor is called like a function: is there an operator missing before a bracket?",
    ),
)


def describe_error(exception: BaseException) -> str:
    """A sentence about the cause of an exception, or "" if none is certain."""
    if _calls_a_loss_class(exception):
        return (
            "The class of a loss is called with tensors: make the loss first, with brackets, such "
            "as `criterion = nn.MSELoss()`."
        )
    text = f"{type(exception).__name__}: {exception}"
    for pattern, sentence in _SENTENCES:
        if found := re.search(pattern, text):
            return found.expand(sentence) if isinstance(sentence, str) else sentence(found)
    return ""


def _linear(given: int, taken: int) -> str:
    sentence = f"A Linear layer that takes {taken} numbers is given {given}."
    if taken % max(given, 1) == 0 and given < taken:
        sentence += " Is nn.Flatten() missing before it?"
    return sentence


def _calls_a_loss_class(exception: BaseException) -> bool:
    """Whether the exception comes from the constructor of one of torch's losses."""
    traceback = exception.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_name == "__init__" and code.co_filename.endswith("torch/nn/modules/loss.py"):
            return True
        traceback = traceback.tb_next
    return False
