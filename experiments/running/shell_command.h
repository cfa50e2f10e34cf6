// Text that a person types again: a command is printed and stored so that a shell reads back the very
// arguments.
#pragma once

#include <string>
#include <vector>

namespace hyperattn {

/// One word for a POSIX shell: as it is where no character has a meaning there, else in single quotes. A word
/// with control characters or bytes that are not UTF-8 is written as $'…' (bash, zsh, ksh, POSIX of 2024), so
/// that the command stays one printable line.
[[nodiscard]] std::string shell_quoted(const std::string& word);

/// The words of a command, quoted, with spaces between them.
[[nodiscard]] std::string shell_command(const std::vector<std::string>& words);

/// The call that goes on where `call` (the program, its command, arguments) stopped: with --resume after the
/// command and without --force.
[[nodiscard]] std::vector<std::string> resumed_call(const std::vector<std::string>& call);

}  // namespace hyperattn
