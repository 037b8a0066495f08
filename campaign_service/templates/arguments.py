"""The arguments of filters and tests: constants are checked, and data is replaced if it is wrong.

An argument that is wrong for everyone is refused when the template is written. One that is missing
or of another type for a receiver means the parameter's default.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any, get_args, get_type_hints

Problem = Callable[[Any], str | None]

REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter takes values of these `types`, or of any if empty; `problems` refuse some."""

    name: str
    types: tuple[type, ...]
    problems: tuple[Problem, ...]
    default: Any

    def problem(self, value: Any) -> str | None:
        """Returns why the value is not allowed; None if it is."""
        if (
            self.types
            and value is not self.default
            and not (
                isinstance(value, self.types)
                and (bool in self.types or not isinstance(value, bool))
            )
        ):
            return f"{self.name} must be {' or '.join(_NAMES[type_] for type_ in self.types)}"
        found = (problem(value) for problem in self.problems)
        return next((f"{self.name} {text}" for text in found if text), None)

    def accepted(self, value: Any) -> Any:
        return value if self.problem(value) is None else self.default


_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of a filter or test, without the value itself."""

    name: str
    parameters: tuple[Parameter, ...]
    takes_any_number: bool = False

    def problem(self, given: Sequence[Any], named: Mapping[str, Any]) -> str | None:
        """Returns why a call with these arguments fails; None if it does not.

        An argument that is not a constant is given as `NotConstant`.
        """
        if len(given) > len(self.parameters) and not self.takes_any_number:
            return f"{self.name} takes at most {len(self.parameters)} arguments"
        bound = dict(zip((p.name for p in self.parameters), given, strict=False))
        known = {parameter.name for parameter in self.parameters}
        for key in named:
            if key in bound or key not in known:
                return f"{self.name} takes no {key!r}" + (" twice" if key in bound else "")
        bound |= named
        for parameter in self.parameters:
            if parameter.name not in bound:
                if parameter.default is REQUIRED:
                    return f"{self.name} needs {parameter.name}"
            elif bound[parameter.name] is not NOT_CONSTANT:
                problem = parameter.problem(bound[parameter.name])
                if problem:
                    return f"{self.name}: {problem}"
        return None


NOT_CONSTANT = object()


@lru_cache(maxsize=1_000)
def signature_of(function: Callable[..., Any], name: str) -> Signature:
    """Reads the signature from the annotations. The function's first parameter is the value.

    `Annotated` adds the checks for problems.
    """
    plain = inspect.unwrap(function)
    hints = get_type_hints(plain, include_extras=True)
    _, *others = [p for p in inspect.signature(plain).parameters.values() if p.name != "self"]
    several = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in others)
    named = [p for p in others if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    return Signature(name, tuple(_parameter(p, hints[p.name]) for p in named), several)


def _parameter(parameter: inspect.Parameter, hint: Any) -> Parameter:
    problems: tuple[Problem, ...] = getattr(hint, "__metadata__", ())
    plain = hint.__origin__ if problems else hint
    types = tuple(t for t in get_args(plain) or (plain,) if t in _NAMES)
    # any value is true or false, and a whole number is a number
    types = () if types == (bool,) else (*types, int) if types == (float,) else types
    return Parameter(parameter.name, types, problems, parameter.default)


def lenient(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps the filter: an argument of another type is replaced by the parameter's default."""
    # Jinja's own filters take a context before the value, and any arguments
    if hasattr(function, "jinja_pass_arg"):
        return function
    parameters = signature_of(function, "").parameters
    by_name = {parameter.name: parameter for parameter in parameters}

    @wraps(function)
    def called(value: Any, *args: Any, **options: Any) -> Any:
        settled = [p.accepted(given) for p, given in zip(parameters, args, strict=False)]
        named = {name: by_name[name].accepted(given) for name, given in options.items()}
        return function(value, *settled, *args[len(parameters) :], **named)

    return called
