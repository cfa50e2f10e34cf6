#include "experiments/running/shell_command.h"

#include <algorithm>
#include <cstdio>

#include "core/text.h"
#include "core/utf8.h"

namespace hyperattn {
namespace {

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
}

std::string ansi_quoted(const std::string& word) {
  std::string text = "$'";
  for (size_t i = 0; i < word.size();) {
    const size_t length = utf8_length(word, i);
    if (length > 1) {
      text += word.substr(i, length);
    } else if (length == 0 || is_control(word[i])) {
      char octal[8];  // always three digits, so that a digit that follows is none of them
      std::snprintf(octal, sizeof octal, "\\%03o", static_cast<unsigned char>(word[i]));
      text += octal;
    } else {
      text += word[i] == '\'' || word[i] == '\\' ? std::string("\\") + word[i] : std::string(1, word[i]);
    }
    i += std::max<size_t>(1, length);
  }
  return text + "'";
}

bool is_printable(const std::string& word) {
  return is_utf8(word) && std::none_of(word.begin(), word.end(), is_control);
}

/// A flag of the command line, also with a value (--force=true).
bool is_flag(const std::string& word, const std::string& flag) {
  return word == flag || word.starts_with(flag + "=");
}

}  // namespace

std::string shell_quoted(const std::string& word) {
  constexpr const char* kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";
  // zsh takes a word that begins with = for the path of a command.
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos && word[0] != '=') return word;
  if (!is_printable(word)) return ansi_quoted(word);
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::string shell_command(const std::vector<std::string>& words) {
  return join_of(words, shell_quoted, " ");
}

std::vector<std::string> resumed_call(const std::vector<std::string>& call) {
  std::vector<std::string> resumed;
  bool options = true;  // until "--", after which every word is an argument
  for (const std::string& word : call) {
    if (word == "--") options = false;
    if (options && (is_flag(word, "--force") || is_flag(word, "--resume"))) continue;
    resumed.push_back(word);
  }
  // Right after the command: behind "--" it would be an argument.
  resumed.insert(resumed.begin() + std::min<std::ptrdiff_t>(2, static_cast<std::ptrdiff_t>(resumed.size())),
                 "--resume");
  return resumed;
}

}  // namespace hyperattn
