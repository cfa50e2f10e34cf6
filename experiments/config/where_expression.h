// The predicates of `where:`, such as "block_size * bucket_count <= seq_len and not causal".
//
//   expression = and-expression { "or" and-expression }       names: parameters, backend, source, pass,
//   and-expr.  = not-expression { "and" not-expression }             and the shapes seq_len, key_len,
//   not-expr.  = "not" not-expression | comparison                   head_dim, value_dim, heads, batch
//   comparison = sum [ ("<" | "<=" | ">" | ">=" | "==" | "!=") sum ]
//   sum        = product { ("+" | "-") product }              literals: numbers, .inf, true, false,
//   product    = factor { ("*" | "/" | "%") factor }                          'text' or "text"
//   factor     = "-" factor | "(" expression ")" | name | literal
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

namespace hyperattn {

using WhereValue = std::variant<double, bool, std::string>;

/// The values that a name can have.
struct WhereType {
  bool number = false;
  bool truth = false;
  bool any_text = false;
  std::vector<std::string> words;  ///< the only texts, unless any_text
};

class WhereExpression {
 public:
  struct Node;

  /// Throws Error(usage) that says what is wrong and at which character.
  explicit WhereExpression(std::string text);

  [[nodiscard]] const std::string& text() const { return text_; }
  /// Every name that occurs, once each.
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
  /// What is wrong with the first comparison (==, !=) that no value could meet, such as one of a number with
  /// a text; empty if there is none. A number never equals a text, so it would drop cases, or keep them,
  /// without a word.
  [[nodiscard]] std::string impossible_comparison(
      const std::function<WhereType(const std::string&)>& type_of) const;
  /// The value for the names that `value_of` gives. Throws Error(usage) where types do not go together
  /// (`backend + 1`) or the result is neither true nor false. Division by 0 follows IEEE arithmetic.
  [[nodiscard]] bool evaluate(const std::function<WhereValue(const std::string&)>& value_of) const;

 private:
  std::string text_;
  std::vector<std::string> names_;
  std::shared_ptr<const Node> root_;
};

}  // namespace hyperattn
