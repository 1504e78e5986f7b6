"""What an argument may be."""


def check(name: str, value: float, good: bool, choices: str) -> None:
    """Raise a ValueError that names an argument, its value and the choices, unless it is good."""
    if not good:
        raise ValueError(f"{name} = {value}: choose {choices}")
