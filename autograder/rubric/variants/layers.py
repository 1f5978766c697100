"""Other ways to write a model's class."""

import ast
from copy import deepcopy

from autograder.rubric.variants.code import (
    Code,
    after_docstring,
    after_super,
    calls,
    expression,
    methods,
    names_in,
    parameters,
    replace,
    statements,
    text,
)

_FUNCTIONS = {
    "nn.LeakyReLU": "lambda x, given=({}): nn.functional.leaky_relu(x, *given)",
    "nn.ReLU": "torch.relu",
    "nn.Sigmoid": "torch.sigmoid",
    "nn.SiLU": "nn.functional.silu",
    "nn.MaxPool2d": "lambda x, given=({}): nn.functional.max_pool2d(x, *given)",
    "nn.Flatten": "lambda x: x.flatten(1)",
    "nn.Unflatten": "lambda x, given=({}): x.unflatten(*given)",
}
_STEPS = """
class Steps(nn.Module):
    def __init__(self, *steps):
        super().__init__()
        self.layers = nn.ModuleList(step for step in steps if isinstance(step, nn.Module))
        self.functions = [None if isinstance(step, nn.Module) else step for step in steps]

    def forward(self, x):
        layers = iter(self.layers)
        for function in self.functions:
            x = next(layers)(x) if function is None else function(x)
        return x
"""
_HIDDEN = ("nn.LeakyReLU", "nn.ReLU")


def functional_activations(code: Code) -> bool:
    """A ModuleList of the layers, and functions between them, in place of nn.Sequential."""

    def change(node: ast.AST) -> ast.AST | None:
        if not isinstance(node, ast.Call):
            return None
        if text(node.func) == "nn.Sequential":
            node.func = expression("Steps")
            return node
        if template := _FUNCTIONS.get(text(node.func)):
            arguments = "".join(f"{text(argument)}, " for argument in node.args)
            return expression(template.format(arguments))
        return None

    if not calls(code.tree, "nn.Sequential"):
        return False
    replace(code.tree, change)
    code.on_top(_STEPS)
    return True


def module_list(code: Code) -> bool:
    """A ModuleList that forward goes through, in place of nn.Sequential."""
    found = calls(code.tree, "nn.Sequential")
    for call in found:
        call.func = expression("Steps")
    if found:
        code.on_top(_STEPS)
    return bool(found)


def one_activation(code: Code) -> bool:
    """One object for all equal layers that have no parameters."""
    applied = False
    for _, function in code.constructors():
        found = [text(call) for call in calls(function, *_FUNCTIONS)]
        often = sorted({each for each in found if found.count(each) > 1})
        shared = {each: f"shared_{number}" for number, each in enumerate(often)}

        def change(node: ast.AST, shared: dict[str, str] = shared) -> ast.AST | None:
            known = isinstance(node, ast.Call) and text(node) in shared
            return expression(shared[text(node)]) if known else None

        applied |= replace(function, change)
        for source, name in shared.items():
            function.body[after_docstring(function) : after_docstring(function)] = statements(
                f"{name} = {source}"
            )
    return applied


def activation_modules(code: Code) -> bool:
    """One activation module, made in the constructor, for the functions that forward calls."""
    modules = {"torch.relu": "ReLU", "nn.functional.silu": "SiLU"}
    applied = False
    for owner, constructor in code.constructors():
        for name, module in modules.items():
            found = calls(owner, name)
            for call in found:
                call.func = expression("self.activation")
            if found:
                constructor.body += statements(f"self.activation = nn.{module}()")
            applied |= bool(found)
    return applied


def reversed_registration(code: Code) -> bool:
    """Independent attributes are assigned in the reverse order."""

    def independent(statement: ast.stmt) -> bool:
        if not isinstance(statement, ast.Assign):
            return False
        (target,) = statement.targets
        return isinstance(target, ast.Attribute) and "self" not in names_in(statement.value)

    applied = False
    for _, function in code.constructors():
        body: list[ast.stmt] = []
        run: list[ast.stmt] = []
        for statement in function.body:
            if independent(statement):
                run.insert(0, statement)
                continue
            body += [*run, statement]
            applied |= len(run) > 1
            run = []
        function.body = body + run
        applied |= len(run) > 1
    return applied


def nested_sequential(code: Code) -> bool:
    """Halves of each nn.Sequential as nn.Sequentials of their own."""
    found = [call for call in calls(code.tree, "nn.Sequential") if len(call.args) > 3]
    for call in found:
        half = len(call.args) // 2
        parts = [call.args[:half], call.args[half:]]
        call.args = [ast.Call(expression("nn.Sequential"), part, []) for part in parts]
    return bool(found)


def named_sequential(code: Code) -> bool:
    """nn.Sequential with an OrderedDict of names and layers."""
    found = [
        call
        for call in calls(code.tree, "nn.Sequential")
        if call.args and not any(isinstance(argument, ast.Starred) for argument in call.args)
    ]
    for call in found:
        pairs = [f"('layer_{n}', {text(layer)})" for n, layer in enumerate(call.args)]
        call.args = [expression(f"OrderedDict([{', '.join(pairs)}])")]
    if found:
        code.on_top("from collections import OrderedDict")
    return bool(found)


def appended_sequential(code: Code) -> bool:
    """An nn.Sequential that gets its layers one by one."""

    def change(node: ast.AST) -> list[ast.stmt] | None:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
            return None
        call, target = node.value, text(node.targets[0])
        if text(call.func) != "nn.Sequential" or not target.startswith("self."):
            return None
        if calls(call, "OrderedDict"):
            return None
        lines = [f"{target} = nn.Sequential()"]
        for layer in call.args:
            if isinstance(layer, ast.Starred):
                lines.append(f"{target}.extend({text(layer.value)})")
            else:
                lines.append(f"{target}.append({text(layer)})")
        return statements("\n".join(lines))

    return replace(code.tree, change)


def dropout(code: Code) -> bool:
    """nn.Dropout after each hidden layer of a fully connected network."""
    return _between_linear_layers(code, after=1, source="nn.Dropout(0.1)")


def batch_norm(code: Code) -> bool:
    """nn.BatchNorm1d after each hidden linear layer, before its activation."""
    return _between_linear_layers(code, after=0, source="nn.BatchNorm1d({width})")


def _between_linear_layers(code: Code, after: int, source: str) -> bool:
    """Insert a layer where an activation stands between two linear layers."""
    applied = False
    for call in calls(code.tree, "nn.Sequential"):
        layers = call.args
        kinds = [text(layer.func) if isinstance(layer, ast.Call) else "" for layer in layers]
        for number in reversed(range(len(layers) - 2)):
            first, second, third = kinds[number : number + 3]
            if first == third == "nn.Linear" and second in _HIDDEN:
                linear = layers[number]
                assert isinstance(linear, ast.Call)
                new = expression(source.format(width=text(linear.args[1])))
                layers.insert(number + after + 1, new)
                applied = True
    return applied


def class_attribute(code: Code) -> bool:
    """The kind of activation as an attribute of the class."""
    applied = False
    for owner, constructor in code.constructors():
        for kind in (*_HIDDEN, "nn.SiLU"):
            found = calls(constructor, kind)
            name = kind.partition(".")[2].lower()
            for call in found:
                call.func = expression(f"self.{name}")
            if found:
                place = int(ast.get_docstring(owner) is not None)
                owner.body[place:place] = statements(f"{name} = {kind}")
            applied |= bool(found)
    return applied


def old_super(code: Code) -> bool:
    """``super(Class, self).__init__()``, as before Python 3."""
    applied = False
    for owner, constructor in code.constructors():
        for call in calls(constructor, "super"):
            if not call.args:
                call.args = [expression(owner.name), expression("self")]
                applied = True
    return applied


def arguments_kept(code: Code) -> bool:
    """The constructor's arguments are kept as attributes."""
    applied = False
    for owner, constructor in code.constructors():
        taken = {node.attr for node in ast.walk(owner) if isinstance(node, ast.Attribute)}
        taken |= {method.name for method in methods(owner)}
        lines = [f"self.{name} = {name}" for name in parameters(constructor)[1:]]
        new = [line for line in lines if line.partition(" = ")[2] not in taken]
        place = after_super(constructor)
        constructor.body[place:place] = statements("\n".join(new))
        applied |= bool(new)
    return applied


def initialised_by_hand(code: Code) -> bool:
    """Other initial weights, by ``self.apply``."""
    applied = False
    for owner, constructor in code.constructors():
        if calls(owner, "nn.Linear", "nn.Conv2d", "nn.ConvTranspose2d"):
            constructor.body += statements("self.apply(initialise)")
            applied = True
    if applied:
        code.on_top(
            "def initialise(layer):\n"
            "    if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):\n"
            "        nn.init.xavier_uniform_(layer.weight)\n"
            "        nn.init.zeros_(layer.bias)\n"
        )
    return applied


def shape_asserted(code: Code) -> bool:
    """forward asserts that it got what it expects."""
    applied = False
    for owner in code.classes():
        for method in methods(owner):
            if method.name == "forward" and len(method.args.args) > 1:
                name = parameters(method)[1]
                line = f"assert torch.is_tensor({name}), f'expected a tensor, got {{{name}!r}}'"
                method.body[after_docstring(method) : after_docstring(method)] = statements(line)
                applied = True
    return applied


def parts_inherited(code: Code) -> bool:
    """The class's code stands in a base class, which an extra cell defines."""
    applied = False
    for owner in code.classes():
        base = deepcopy(owner)
        base.name = f"{owner.name}Base"

        def change(node: ast.AST, name: str = owner.name) -> ast.AST | None:
            own = isinstance(node, ast.Name) and node.id == name
            return expression(f"{name}Base") if own else None

        replace(base, change)
        code.before.append(base)
        owner.bases = [expression(base.name)]
        owner.body = statements("pass")
        applied = True
    return applied
