"""Other ways to write a loop over batches."""

import ast
from collections.abc import Callable

from autograder.rubric.variants.code import (
    Code,
    Function,
    after_docstring,
    calls,
    expression,
    names_in,
    parameters,
    replace,
    statements,
    text,
)


def monitoring_pass(code: Code) -> bool:
    """After the epoch, a look at what the model makes of the last batch."""
    return _before_the_return(code, "with torch.no_grad():\n    {call}")


def monitoring_in_evaluation(code: Code) -> bool:
    """The same in evaluation mode."""
    return _before_the_return(
        code, "model.eval()\nwith torch.no_grad():\n    {call}\nmodel.train()"
    )


def smaller_learning_rate(code: Code) -> bool:
    """The learning rate is lowered after each epoch."""
    return _before_the_return(code, "for g in optimizer.param_groups:\n    g['lr'] *= 0.95")


def printed(code: Code) -> bool:
    """The epoch's mean loss is printed."""
    return _before_the_return(code, "print(f'mean loss {total / n_images:.4f}')")


def _before_the_return(code: Code, template: str) -> bool:
    """Insert statements at the end of an epoch; ``{call}`` is how the model was called."""
    found = list(code.trainings())
    for function in found:
        call = text(calls(function, "model")[0])
        function.body[-1:-1] = statements(template.replace("{call}", call))
    return bool(found)


def mode_restored(code: Code) -> bool:
    """The model leaves the function in the mode in which it came."""
    applied = False
    for function in code.functions():
        for number, statement in enumerate(function.body):
            if text(statement) not in ("model.train()", "model.eval()"):
                continue
            rest, last = function.body[number + 1 :], function.body[-1]
            if isinstance(last, ast.Return) and "model" not in names_in(last):
                rest[-1:-1] = statements("model.train(was_training)")
            else:
                (attempt,) = statements("try:\n    pass\nfinally:\n    model.train(was_training)")
                assert isinstance(attempt, ast.Try)
                attempt.body, rest = rest, [attempt]
            before = statements("was_training = model.training")
            function.body[number:] = [*before, statement, *rest]
            applied = True
            break
    return applied


def gradients_enabled(code: Code) -> bool:
    """``torch.enable_grad`` around the loop, as where validation stands in the same function."""
    found = [loop for function in code.trainings() for loop in _loops(function)]

    def change(node: ast.AST) -> list[ast.stmt] | None:
        if not isinstance(node, ast.For) or node not in found:
            return None
        (block,) = statements("with torch.enable_grad():\n    pass")
        assert isinstance(block, ast.With)
        block.body = [node]
        return [block]

    return replace(code.tree, change)


def _loops(function: Function) -> list[ast.For]:
    """The loops over a loader's batches."""
    found = [node for node in ast.walk(function) if isinstance(node, ast.For)]
    return [loop for loop in found if names_in(loop.iter) & {"loader", "scheduler"}]


def progress_bar(code: Code) -> bool:
    """tqdm around what is looped over."""

    def change(node: ast.AST) -> ast.AST | None:
        if isinstance(node, ast.Name | ast.Attribute) and text(node) in (
            "loader",
            "scheduler.timesteps",
        ):
            return expression(f"tqdm({text(node)}, leave=False)")
        return None

    found = [loop for function in code.functions() for loop in _loops(function)]
    for loop in found:
        whole = ast.Expression(loop.iter)
        replace(whole, change)
        loop.iter = whole.body
    if found:
        code.on_top("from tqdm.auto import tqdm")
    return bool(found)


def enumerated(code: Code) -> bool:
    """Batches are numbered."""
    applied = False
    for function in code.functions():
        for loop in _loops(function):
            if not calls(loop.iter, "enumerate"):
                number = ast.Name("batch_number", ast.Store())
                loop.target = ast.Tuple([number, loop.target], ast.Store())
                loop.iter = ast.Call(expression("enumerate"), [loop.iter], [])
                applied = True
    return applied


def whole_batch(code: Code) -> bool:
    """``for batch in loader``, taken apart in the loop."""
    applied = False
    for function in code.functions():
        for loop in _loops(function):
            if isinstance(loop.target, ast.Tuple) and text(loop.iter) == "loader":
                taken = ast.Assign([loop.target], expression("batch"))
                loop.target = ast.Name("batch", ast.Store())
                loop.body.insert(0, taken)
                applied = True
    return applied


def losses_in_a_list(code: Code) -> bool:
    """The batches' losses in a list, which is summed at the end."""

    def change(node: ast.AST) -> ast.AST | list[ast.stmt] | None:
        if isinstance(node, ast.Assign) and text(node) == "total, n_images = (0.0, 0)":
            return statements("totals, n_images = [], 0")
        if isinstance(node, ast.AugAssign) and text(node.target) == "total":
            return statements(f"totals.append({text(node.value)})")
        if isinstance(node, ast.Return | ast.JoinedStr) and "total" in names_in(node):
            replace(node, summed)
            return node
        return None

    def summed(node: ast.AST) -> ast.AST | None:
        return (
            expression("sum(totals)") if isinstance(node, ast.Name) and node.id == "total" else None
        )

    return replace(code.tree, change)


def running_tensor(code: Code) -> bool:
    """The sum of the losses is a tensor without a graph, and becomes a float at the end."""
    applied = False
    for function in code.trainings():

        def change(node: ast.AST) -> ast.AST | list[ast.stmt] | None:
            if isinstance(node, ast.AugAssign) and text(node.target) == "total":
                return statements(text(node).replace(".item()", ".detach()"))
            if isinstance(node, ast.Return) and text(node) == "return total / n_images":
                return statements("return float(total / n_images)")
            return None

        applied |= replace(function, change)
    return applied


def gradients_cleared_later(code: Code) -> bool:
    """Gradients are cleared just before backward."""
    applied = False
    for function in code.trainings():
        for loop in _loops(function):
            lines = [text(statement) for statement in loop.body]
            backward = next((n for n, line in enumerate(lines) if ".backward()" in line), None)
            if backward and "optimizer.zero_grad()" in lines:
                cleared = loop.body.pop(lines.index("optimizer.zero_grad()"))
                loop.body.insert(backward - 1, cleared)
                applied = True
    return applied


def gradients_cleared_by_the_model(code: Code) -> bool:
    """``model.zero_grad()``."""
    found = [
        call for function in code.trainings() for call in calls(function, "optimizer.zero_grad")
    ]
    for call in found:
        call.func = expression("model.zero_grad")
    return bool(found)


def clipped(code: Code) -> bool:
    """Gradients are clipped, at a norm that they rarely have."""

    def change(node: ast.AST) -> list[ast.stmt] | None:
        if isinstance(node, ast.Expr) and text(node) == "optimizer.step()":
            clip = "torch.nn.utils.clip_grad_norm_(model.parameters(), 1000.0)"
            return [*statements(clip), node]
        return None

    return replace(code.tree, change)


def mixed_precision(code: Code) -> bool:
    """The model and its loss are computed under autocast."""

    def change(loop: ast.For, first: int) -> None:
        last = next(n for n, s in enumerate(loop.body) if "backward" in text(s))
        loop.body[first:last] = [_autocast(loop.body[first:last])]

    return _where_the_model_is_called(code, change)


def mixed_precision_of_the_model(code: Code) -> bool:
    """The model alone is computed under autocast; the loss gets float32."""

    def change(loop: ast.For, first: int) -> None:
        call = loop.body[first]
        assert isinstance(call, ast.Assign)
        names = sorted(names_in(*call.targets) - {"_"})
        cast = statements("\n".join(f"{name} = {name}.float()" for name in names))
        loop.body[first : first + 1] = [_autocast([call]), *cast]

    return _where_the_model_is_called(code, change)


def _where_the_model_is_called(code: Code, change: Callable[[ast.For, int], None]) -> bool:
    """Change each loop of a training, given the place where it calls the model."""
    applied = False
    for function in code.trainings():
        for loop in _loops(function):
            places = [n for n, statement in enumerate(loop.body) if calls(statement, "model")]
            if places and isinstance(loop.body[places[0]], ast.Assign):
                change(loop, places[0])
                applied = True
    return applied


def _autocast(body: list[ast.stmt]) -> ast.With:
    (block,) = statements("with torch.autocast('cpu', torch.bfloat16):\n    pass")
    assert isinstance(block, ast.With)
    block.body = body
    return block


def no_grad_by_hand(code: Code) -> bool:
    """``with torch.no_grad()`` for the decorator, and the decorator for the block."""
    applied = False
    for function in code.functions():
        kept = [d for d in function.decorator_list if text(d) != "torch.no_grad()"]
        if len(kept) < len(function.decorator_list):
            function.decorator_list = kept
            (block,) = statements("with torch.no_grad():\n    pass")
            assert isinstance(block, ast.With)
            place = after_docstring(function)
            block.body = function.body[place:]
            function.body[place:] = [block]
            applied = True
            continue
        blocks = [n for n in function.body if isinstance(n, ast.With)]
        if blocks and {text(b.items[0]) for b in blocks} == {"torch.no_grad()"}:

            def change(node: ast.AST, blocks: list[ast.With] = blocks) -> list[ast.stmt] | None:
                return node.body if isinstance(node, ast.With) and node in blocks else None

            replace(function, change)
            function.decorator_list.append(expression("torch.no_grad()"))
            applied = True
    return applied


def inference_mode(code: Code) -> bool:
    """``torch.inference_mode`` in place of ``torch.no_grad``."""
    found = calls(code.tree, "torch.no_grad")
    for call in found:
        call.func = expression("torch.inference_mode")
    return bool(found)


def loss_by_keyword(code: Code) -> bool:
    """The given loss is called with the names of its parameters."""
    applied = False
    for function in code.functions():
        for name in {"loss_function", "criterion", "error"} & set(parameters(function)):
            known = [code.signatures.get(each) for each in (name, "vae_loss", "normalised_error")]
            signature = next((each for each in known if each), None)
            for call in calls(function, name) if signature else []:
                pairs = zip(signature or (), call.args, strict=False)
                call.keywords = [ast.keyword(parameter, value) for parameter, value in pairs]
                call.args = []
                applied = True
    return applied


def condition_by_keyword(code: Code) -> bool:
    """The model's condition is given by its name."""
    applied = False
    for function in code.trainings():
        for call in calls(function, "model"):
            if len(call.args) == 2:
                call.keywords.append(ast.keyword("c", call.args.pop()))
                applied = True
    return applied
