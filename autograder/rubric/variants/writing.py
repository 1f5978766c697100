"""Other ways to write a function."""

import ast
import inspect
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from autograder.rubric.variants.code import (
    Code,
    Function,
    after_docstring,
    expression,
    methods,
    names_in,
    parameters,
    replace,
    statements,
    text,
)

_TENSORS = {
    *("x", "x_hat", "recon_x", "theta", "mu", "mean", "logvar", "log_var", "std", "z", "c"),
    *("images", "image", "variations", "img1", "img2", "latents", "scores", "hidden", "vectors"),
    *("labels", "quarters", "emb", "first", "second"),
}
_HINTS = {
    **dict.fromkeys(_TENSORS, "torch.Tensor"),
    **dict.fromkeys(("model", "encoder", "decoder", "quantizer", "network"), "torch.nn.Module"),
    **dict.fromkeys(("n", "latent_dim", "hidden_dim", "input_dim", "image_size"), "int"),
    **dict.fromkeys(("beta", "share", "variance_scale", "lambda_", "reach"), "float"),
    "optimizer": "torch.optim.Optimizer",
    "device": "str | torch.device",
    "loader": "torch.utils.data.DataLoader",
}


def renamed_locals(code: Code) -> bool:
    """Local variables have other names."""
    applied = False
    for function in code.functions():
        inner = [node for node in ast.walk(function) if isinstance(node, ast.arg)]
        arguments = {node.arg for node in inner}
        stored = {
            node.id
            for node in ast.walk(function)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        new = {name: f"my_{name}" for name in stored - arguments - {"_"}}
        for node in ast.walk(function):
            if isinstance(node, ast.Name) and node.id in new:
                node.id = new[node.id]
        applied |= bool(new)
    return applied


def keyword_arguments(code: Code) -> bool:
    """Keywords in calls of the student's own functions and of torch's layers and functions."""
    applied = False

    def change(function: Function) -> None:
        nonlocal applied
        for call in [node for node in ast.walk(function) if isinstance(node, ast.Call)]:
            name = text(call.func)
            names = _signature(name, code) if name not in parameters(function) else None
            plain = not any(isinstance(argument, ast.Starred) for argument in call.args)
            if names and plain and 0 < len(call.args) <= len(names):
                pairs = zip(names, call.args, strict=False)
                call.keywords[:0] = [ast.keyword(name, value) for name, value in pairs]
                call.args = []
                applied = True

    for function in code.functions():
        change(function)
    return applied


def _signature(name: str, code: Code) -> list[str] | None:
    """The names of the parameters that a call of ``name`` may give by position."""
    if name in code.signatures:
        return list(code.signatures[name])
    place: Any = {"nn": nn, "torch": torch}.get(name.partition(".")[0])
    for part in name.split(".")[1:]:
        place = getattr(place, part, None)
    if place is None:
        return None
    try:
        found = list(inspect.signature(place).parameters.values())
    except (ValueError, TypeError):  # a function in C without a signature
        return None
    by_name = [p.name for p in found if p.kind is p.POSITIONAL_OR_KEYWORD]
    return by_name if all(p.kind is not p.VAR_POSITIONAL for p in found) else None


def type_hints(code: Code) -> bool:
    """Functions have type hints."""
    applied = False
    for function in code.functions():
        for arg in function.args.args:
            if arg.arg in _HINTS:
                arg.annotation = expression(_HINTS[arg.arg])
                applied = True
        if {"loader", "loss_function"} <= set(parameters(function)):
            function.returns = expression("float")
    return applied


def no_docstrings(code: Code) -> bool:
    """Docstrings are gone, and comments with them."""
    applied = False
    found: list[ast.ClassDef | Function] = [*code.classes(), *code.functions()]
    for node in found:
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or statements("pass")
            applied = True
    return applied


def named_result(code: Code) -> bool:
    """What is returned has a name first."""

    def change(node: ast.AST) -> list[ast.stmt] | None:
        if isinstance(node, ast.Return) and node.value and not isinstance(node.value, ast.Name):
            return [*statements(f"result = {text(node.value)}"), *statements("return result")]
        return None

    return replace(code.tree, change)


def early_return(code: Code) -> bool:
    """``if`` statements, with early returns, for conditional expressions."""

    def change(node: ast.AST) -> ast.AST | None:
        if not isinstance(node, ast.Assign | ast.Return):
            return None
        inner = list(ast.walk(node))
        conditions = [each for each in inner if isinstance(each, ast.IfExp)]
        loops = [each for each in inner if isinstance(each, ast.comprehension | ast.Lambda)]
        if len(conditions) != 1 or loops:
            return None
        branches: list[list[ast.stmt]] = []
        for chosen in (conditions[0].body, conditions[0].orelse):
            branch = deepcopy(node)

            def choose(inner: ast.AST, chosen: ast.expr = chosen) -> ast.AST | None:
                return chosen if isinstance(inner, ast.IfExp) else None

            replace(branch, choose)
            branches.append([branch])
        return ast.If(conditions[0].test, *branches)

    return replace(code.tree, change)


def one_by_one(code: Code) -> bool:
    """``a, b = c, d`` as two assignments, and several settings in one line."""

    def change(node: ast.AST) -> list[ast.stmt] | None:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)):
            return None
        (target,) = node.targets
        if not isinstance(target, ast.Tuple) or len(target.elts) != len(node.value.elts):
            return None
        pairs = list(zip(target.elts, node.value.elts, strict=True))
        for number, (name, _) in enumerate(pairs):
            if names_in(name) & names_in(*[value for _, value in pairs[number + 1 :]]):
                return None
        return statements("\n".join(f"{text(name)} = {text(value)}" for name, value in pairs))

    applied = replace(code.tree, change)
    simple = [node for node in code.tree.body if isinstance(node, ast.Assign)]
    if len(simple) == len(code.tree.body) > 1:
        targets = ", ".join(text(node.targets[0]) for node in simple)
        values = ", ".join(text(node.value) for node in simple)
        code.tree.body = statements(f"{targets} = {values}")
        return True
    return applied


def lambdas(code: Code) -> bool:
    """A function of one expression is a lambda."""

    def change(node: ast.AST) -> list[ast.stmt] | None:
        if not isinstance(node, Function) or node.decorator_list or node not in code.tree.body:
            return None
        body = node.body[after_docstring(node) :]
        if len(body) != 1 or not isinstance(body[0], ast.Return) or body[0].value is None:
            return None
        return statements(f"{node.name} = lambda {text(node.args)}: {text(body[0].value)}")

    return replace(code.tree, change)


def helper_cell(code: Code) -> bool:
    """What functions and methods do stands in helper functions, in an extra cell."""
    owners = {id(m): f"{owner.name}_" for owner in code.classes() for m in methods(owner)}
    for function in list(code.functions()):
        if function.name == "__init__":
            continue
        helper = deepcopy(function)
        helper.name = f"{owners.get(id(function), '')}{function.name}_helper"
        helper.decorator_list = []
        code.before.append(helper)
        arguments = ", ".join(parameters(function))
        place = after_docstring(function)
        function.body[place:] = statements(f"return {helper.name}({arguments})")
    return bool(code.before)


def float64_inside(code: Code) -> bool:
    """Computed with float64, and returned as float32."""
    applied = False
    for function in code.functions():
        own = {"self", "model", "vae", "super"} & names_in(*function.body)
        cast = [name for name in _tensors(function) if name not in ("labels", "hidden")]
        if own or not cast or function.name == "save_variations":
            continue

        def change(node: ast.AST) -> list[ast.stmt] | None:
            if isinstance(node, ast.Return) and node.value:
                return statements(f"return ({text(node.value)}).float()")
            return None

        replace(function, change)
        lines = "\n".join(f"{name} = {name}.double()" for name in cast)
        function.body[after_docstring(function) : after_docstring(function)] = statements(lines)
        applied = True
    return applied


def functional_by_its_short_name(code: Code) -> bool:
    """``import torch.nn.functional as F``."""

    def change(node: ast.AST) -> ast.AST | None:
        known = isinstance(node, ast.Attribute) and text(node) == "nn.functional"
        return expression("F") if known else None

    if replace(code.tree, change):
        code.on_top("import torch.nn.functional as F")
        return True
    return False


def other_spelling(code: Code) -> bool:
    """Methods of tensors for functions of torch and the reverse, modules for functions."""
    as_methods = ("exp", "sum", "relu", "sigmoid")
    modules = {
        "nn.functional.binary_cross_entropy": "torch.nn.BCELoss",
        "nn.functional.mse_loss": "torch.nn.MSELoss",
        "nn.functional.silu": "torch.nn.SiLU",
    }

    def change(node: ast.AST) -> ast.AST | None:
        if not isinstance(node, ast.Call):
            return (
                ast.Call(expression("torch.matmul"), [node.left, node.right], [])
                if (isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult))
                else None
            )
        name, arguments = text(node.func), [text(argument) for argument in node.args]
        if module := modules.get(name):
            settings = ", ".join(text(keyword) for keyword in node.keywords)
            return expression(f"{module}({settings})({', '.join(arguments)})")
        owner, _, method = name.partition(".")
        if owner == "torch" and method in as_methods and len(arguments) == 1:
            return expression(f"({arguments[0]}).{method}()")
        if name == "torch.cat":
            return ast.Call(expression("torch.concat"), node.args, node.keywords)
        if name in ("len",) and arguments[0] in _TENSORS:
            return expression(f"{arguments[0]}.shape[0]")
        if name in ("model.train", "model.eval"):
            return expression(f"model.train({name == 'model.train'})")
        if isinstance(node.func, ast.Attribute) and name not in ("torch.exp",):
            owner = text(node.func.value)
            match node.func.attr, arguments:
                case "pow", [power]:
                    return expression(f"({owner}) ** {power}")
                case "exp", []:
                    return expression(f"torch.exp({owner})")
                case "unsqueeze", ["0"]:
                    return expression(f"({owner})[None]")
                case "flatten", ["1"] if owner != "torch":
                    return expression(f"torch.flatten({owner}, 1)")
                case "clamp", [low, high]:
                    return expression(f"torch.clamp({owner}, min={low}, max={high})")
                case "view", [*_]:
                    return expression(f"({owner}).reshape({', '.join(arguments)})")
        return None

    return replace(code.tree, change)


def noise_of_a_shape(code: Code) -> bool:
    """``torch.randn`` of a shape for ``randn_like``."""
    return _other_noise(code, "torch.randn({x}.shape, device={x}.device)")


def noise_in_place(code: Code) -> bool:
    """``normal_`` of an empty tensor for ``randn_like``."""
    return _other_noise(code, "torch.empty_like({x}).normal_()")


def noise_from_a_distribution(code: Code) -> bool:
    """``torch.distributions.Normal`` for ``randn_like``."""
    return _other_noise(code, "torch.distributions.Normal(0.0, 1.0).sample({x}.shape).to({x})")


def noise_from_numpy(code: Code) -> bool:
    """NumPy's random numbers, cast to float32."""
    if not _other_noise(code, "torch.from_numpy(np.random.randn(*{x}.shape)).to({x})"):
        return False
    code.on_top("import numpy as np")
    return True


def _other_noise(code: Code, template: str) -> bool:
    def change(node: ast.AST) -> ast.AST | None:
        if isinstance(node, ast.Call) and text(node.func) == "torch.randn_like":
            return expression(template.replace("{x}", text(node.args[0])))
        return None

    return replace(code.tree, change)


def plain_method(code: Code) -> bool:
    """A method of the object in place of a static one."""
    applied = False
    for owner in code.classes():
        for method in methods(owner):
            kept = [d for d in method.decorator_list if text(d) != "staticmethod"]
            if len(kept) < len(method.decorator_list):
                method.decorator_list = kept
                method.args.args.insert(0, ast.arg("self"))
                applied = True
    return applied


def shapes_printed(code: Code) -> bool:
    """Prints the shapes that come in, as people do while they look for a mistake."""
    applied = False
    for function in code.functions():
        lines = "\n".join(f"print('{n}', tuple({n}.shape))" for n in _tensors(function))
        function.body[after_docstring(function) : after_docstring(function)] = statements(lines)
        applied |= bool(lines)
    return applied


def _tensors(function: Function) -> list[str]:
    """The parameters that are tensors, judged by their names."""
    names = parameters(function)
    needed = names[: len(names) - len(function.args.defaults)]
    return [name for name in needed if name in _TENSORS]
