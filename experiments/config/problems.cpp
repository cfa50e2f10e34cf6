#include "experiments/config/problems.h"

#include <fmt/core.h>

#include <algorithm>

#include "core/error.h"
#include "core/parameters.h"
#include "core/text.h"
#include "core/utf8.h"

namespace hyperattn {
namespace {

constexpr size_t kShown = 50;
constexpr size_t kMaximumMessage = 1000;

// A hostile or garbled file must not flood the terminal.
std::string shortened(const std::string& text) {
  return text.size() <= kMaximumMessage ? text : cut_utf8(text, kMaximumMessage) + " …";
}

}  // namespace

void Problems::append(Problem problem) {
  const auto same = [&](const Problem& p) { return p.text == problem.text; };
  if (std::none_of(found_.begin(), found_.end(), same)) found_.push_back(std::move(problem));
}

void Problems::add(const Origin& origin, const std::string& message) {
  if (found_.size() > 10 * kShown) return;
  std::string place = file_;
  if (origin.layer == Layer::command_line)
    place = fmt::format("argument '{}'", origin.text);
  else if (origin.line > 0)
    place += ":" + std::to_string(origin.line);
  append({origin.layer, origin.line, shortened(place + ": " + message)});
}

void Problems::add_unknown(const Origin& origin, const std::string& what, const std::string& name,
                           const std::string& where, const std::vector<std::string>& allowed) {
  std::string message = fmt::format("unknown {} '{}'{}", what, name, where.empty() ? "" : " in " + where);
  const std::string near = nearest_name(name, allowed);
  if (!near.empty()) message += fmt::format("; did you mean '{}'?", near);
  message += fmt::format("{}Allowed: {}", near.empty() ? ". " : " ", join(allowed));
  add(origin, message);
}

std::string Problems::text() const {
  std::vector<Problem> sorted = found_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Problem& a, const Problem& b) {
    const bool a_late = a.layer == Layer::command_line;
    const bool b_late = b.layer == Layer::command_line;
    return a_late != b_late ? b_late : a.line < b.line;
  });
  std::string all;
  for (size_t i = 0; i < std::min(sorted.size(), kShown); ++i)
    all += (all.empty() ? "" : "\n") + sorted[i].text;
  if (sorted.size() > kShown) all += fmt::format("\n… and {} more", sorted.size() - kShown);
  return all;
}

void Problems::throw_if_any() const {
  if (!empty()) fail_usage(text());
}

void Problems::merge(const Problems& other, const std::string& suffix) {
  for (Problem problem : other.found_) {
    problem.text += suffix;
    append(std::move(problem));
  }
}

}  // namespace hyperattn
