"""`siglip-verify completion`: what a shell needs to complete commands and flags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from cyclopts import App

Shell = Literal["bash", "zsh", "fish"]


def completion_of(app: App) -> Callable[[Shell], int]:
    """Return the command that writes the completion of an app."""

    def completion(shell: Shell) -> int:
        """Print the script that lets a shell complete commands and flags.

        ```
        siglip-verify completion bash > ~/.local/share/bash-completion/completions/siglip-verify
        siglip-verify completion zsh > ~/.zfunc/_siglip-verify
        siglip-verify completion fish > ~/.config/fish/completions/siglip-verify.fish
        ```

        Args:
            shell: Which shell.
        """
        print(app.generate_completion(prog_name=app.name[0], shell=shell))
        return 0

    return completion
