#include "experiments/config/where_expression.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "core/error.h"
#include "core/parameters.h"
#include "core/text.h"
#include "experiments/config/problems.h"

namespace hyperattn {

/// One operation, name or literal.
struct WhereExpression::Node {
  enum class Kind { literal, name, operation };
  Kind kind = Kind::literal;
  WhereValue value;  ///< literal
  std::string text;  ///< the name, or the operation: or and not < <= > >= == != + - * / % negate
  std::vector<std::shared_ptr<const Node>> operands;
};

namespace {

using Node = WhereExpression::Node;
using NodePointer = std::shared_ptr<const Node>;

constexpr size_t kMaximumLength = 1000;
constexpr int kMaximumDepth = 50;

struct Token {
  enum class Kind { end, number, text, name, symbol };
  Kind kind = Kind::end;
  std::string text;
  double number = 0;
  size_t position = 0;
};

[[noreturn]] void fail_at(const std::string& text, size_t position, const std::string& message) {
  fail_usage(fmt::format("cannot be understood at character {} of '{}': {}", position + 1, text, message));
}

class Tokenizer {
 public:
  explicit Tokenizer(const std::string& text) : text_(text) {}

  Token next() {
    while (position_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[position_])) != 0)
      ++position_;
    Token token;
    token.position = position_;
    if (position_ == text_.size()) return token;
    const char c = text_[position_];
    if (std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_') return name(token);
    if (std::isdigit(static_cast<unsigned char>(c)) != 0 || c == '.') return number(token);
    if (c == '\'' || c == '"') return quoted(token, c);
    return symbol(token);
  }

 private:
  Token name(Token token) {
    const auto belongs = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '.'; };
    while (position_ < text_.size() && belongs(static_cast<unsigned char>(text_[position_])))
      token.text += text_[position_++];
    const bool word = token.text == "and" || token.text == "or" || token.text == "not";
    token.kind = word ? Token::Kind::symbol : Token::Kind::name;
    return token;
  }

  Token number(Token token) {
    token.kind = Token::Kind::number;
    if (text_.compare(position_, 4, ".inf") == 0) {
      token.number = std::numeric_limits<double>::infinity();
      position_ += 4;
      return token;
    }
    const char* begin = text_.data() + position_;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), token.number);
    if (error != std::errc()) fail_at(text_, position_, "not a number");
    position_ += static_cast<size_t>(end - begin);
    return token;
  }

  Token quoted(Token token, char quote) {
    const size_t close = text_.find(quote, position_ + 1);
    if (close == std::string::npos) fail_at(text_, position_, "the quoted text never ends");
    token.kind = Token::Kind::text;
    token.text = text_.substr(position_ + 1, close - position_ - 1);
    position_ = close + 1;
    return token;
  }

  Token symbol(Token token) {
    token.kind = Token::Kind::symbol;
    for (const std::string symbol : {"<=", ">=", "==", "!=", "<", ">", "+", "-", "*", "/", "%", "(", ")"})
      if (text_.compare(position_, symbol.size(), symbol) == 0) {
        token.text = symbol;
        position_ += symbol.size();
        return token;
      }
    const char c = text_[position_];
    const std::string hint = c == '='                           ? "write == to compare"
                             : c == '&' || c == '|' || c == '!' ? "write and, or, not"
                                                                : "unexpected character";
    fail_at(text_, position_, hint);
  }

  const std::string& text_;
  size_t position_ = 0;
};

/// Recursive descent; the grammar is in the header.
class Parser {
 public:
  explicit Parser(const std::string& text) : text_(text), tokenizer_(text) { advance(); }

  NodePointer parse() {
    NodePointer root = disjunction();
    if (token_.kind != Token::Kind::end) fail("expected the end, or an operator");
    return root;
  }

  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }

 private:
  [[noreturn]] void fail(const std::string& message) const { fail_at(text_, token_.position, message); }

  void advance() { token_ = tokenizer_.next(); }

  [[nodiscard]] bool at(const std::string& symbol) const {
    return token_.kind == Token::Kind::symbol && token_.text == symbol;
  }

  /// The operator among `symbols` that comes next, taken; else empty.
  std::string take(const std::vector<std::string>& symbols) {
    for (const std::string& symbol : symbols)
      if (at(symbol)) {
        advance();
        return symbol;
      }
    return {};
  }

  static NodePointer operation(const std::string& name, std::vector<NodePointer> operands) {
    auto node = std::make_shared<Node>();
    node->kind = Node::Kind::operation;
    node->text = name;
    node->operands = std::move(operands);
    return node;
  }

  static NodePointer literal(WhereValue value) {
    auto node = std::make_shared<Node>();
    node->value = std::move(value);
    return node;
  }

  NodePointer left_to_right(const std::vector<std::string>& symbols, NodePointer (Parser::*operand)()) {
    NodePointer left = (this->*operand)();
    for (std::string symbol = take(symbols); !symbol.empty(); symbol = take(symbols))
      left = operation(symbol, {left, (this->*operand)()});
    return left;
  }

  NodePointer disjunction() { return left_to_right({"or"}, &Parser::conjunction); }
  NodePointer conjunction() { return left_to_right({"and"}, &Parser::negation); }
  NodePointer sum() { return left_to_right({"+", "-"}, &Parser::product); }
  NodePointer product() { return left_to_right({"*", "/", "%"}, &Parser::factor); }

  NodePointer negation() {
    if (take({"not"}).empty()) return comparison();
    enter();
    NodePointer node = operation("not", {negation()});
    --depth_;
    return node;
  }

  NodePointer comparison() {
    const std::vector<std::string> symbols = {"<=", ">=", "==", "!=", "<", ">"};
    NodePointer left = sum();
    const std::string symbol = take(symbols);
    if (symbol.empty()) return left;
    left = operation(symbol, {left, sum()});
    if (!take(symbols).empty()) fail("comparisons cannot be chained; join two with 'and'");
    return left;
  }

  NodePointer factor() {
    enter();
    NodePointer node;
    if (!take({"-"}).empty())
      node = operation("negate", {factor()});
    else if (!take({"("}).empty())
      node = parenthesised();
    else
      node = leaf();
    --depth_;
    return node;
  }

  NodePointer parenthesised() {
    NodePointer node = disjunction();
    if (take({")"}).empty()) fail("expected ')'");
    return node;
  }

  NodePointer leaf() {
    const Token token = token_;
    if (token.kind == Token::Kind::end || token.kind == Token::Kind::symbol)
      fail("expected a name, a number or a quoted text");
    advance();
    if (token.kind == Token::Kind::number) return literal(token.number);
    if (token.kind == Token::Kind::text) return literal(token.text);
    for (const char* word : {"true", "True", "TRUE"})
      if (token.text == word) return literal(true);
    for (const char* word : {"false", "False", "FALSE"})
      if (token.text == word) return literal(false);
    if (std::find(names_.begin(), names_.end(), token.text) == names_.end()) names_.push_back(token.text);
    auto node = std::make_shared<Node>();
    node->kind = Node::Kind::name;
    node->text = token.text;
    return node;
  }

  void enter() {
    if (++depth_ > kMaximumDepth) fail("nested too deep");
  }

  const std::string& text_;
  Tokenizer tokenizer_;
  Token token_;
  std::vector<std::string> names_;
  int depth_ = 0;
};

std::string describe(const WhereValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return fmt::format("the text '{}'", *text);
  return std::holds_alternative<bool>(value) ? "a truth value" : "a number";
}

double as_number(const WhereValue& value, const std::string& operation) {
  if (const auto* number = std::get_if<double>(&value)) return *number;
  fail_usage(fmt::format("applies '{}' to {}; it takes numbers", operation == "negate" ? "-" : operation,
                         describe(value)));
}

bool as_truth(const WhereValue& value, const std::string& operation) {
  if (const auto* truth = std::get_if<bool>(&value)) return *truth;
  fail_usage(fmt::format("applies '{}' to {}; it takes truth values", operation, describe(value)));
}

// A parameter may hold a number or a word (approx_kappa: auto), so a text is allowed to meet anything.
bool are_equal(const WhereValue& a, const WhereValue& b) {
  const bool text = std::holds_alternative<std::string>(a) || std::holds_alternative<std::string>(b);
  if (a.index() != b.index() && !text)
    fail_usage(fmt::format("compares {} with {}", describe(a), describe(b)));
  return a == b;
}

WhereValue arithmetic(const std::string& operation, double a, double b) {
  if (operation == "+") return a + b;
  if (operation == "-") return a - b;
  if (operation == "*") return a * b;
  if (operation == "/") return a / b;
  if (operation == "%") return std::fmod(a, b);
  if (operation == "<") return a < b;
  if (operation == "<=") return a <= b;
  if (operation == ">") return a > b;
  return a >= b;
}

bool is_comparison(const std::string& operation) {
  return operation == "==" || operation == "!=";
}

using ValueOf = std::function<WhereValue(const std::string&)>;

WhereValue evaluate(const Node& node, const ValueOf& value_of);

WhereValue operate(const Node& node, const ValueOf& value_of) {
  const std::string& operation = node.text;
  const WhereValue first = evaluate(*node.operands[0], value_of);
  if (operation == "not") return !as_truth(first, operation);
  if (operation == "negate") return -as_number(first, operation);
  const WhereValue second = evaluate(*node.operands[1], value_of);
  if (operation == "and") return as_truth(first, operation) && as_truth(second, operation);
  if (operation == "or") return as_truth(first, operation) || as_truth(second, operation);
  if (is_comparison(operation)) return are_equal(first, second) == (operation == "==");
  return arithmetic(operation, as_number(first, operation), as_number(second, operation));
}

WhereValue evaluate(const Node& node, const ValueOf& value_of) {
  if (node.kind == Node::Kind::literal) return node.value;
  if (node.kind == Node::Kind::name) return value_of(node.text);
  return operate(node, value_of);
}

using TypeOf = std::function<WhereType(const std::string&)>;

WhereType type_of_literal(const WhereValue& value) {
  WhereType type;
  type.number = std::holds_alternative<double>(value);
  type.truth = std::holds_alternative<bool>(value);
  if (const auto* text = std::get_if<std::string>(&value)) type.words = {*text};
  return type;
}

WhereType type_of_node(const Node& node, const TypeOf& type_of) {
  if (node.kind == Node::Kind::literal) return type_of_literal(node.value);
  if (node.kind == Node::Kind::name) return type_of(node.text);
  WhereType type;
  const std::vector<std::string> arithmetic = {"+", "-", "*", "/", "%", "negate"};
  type.number = std::find(arithmetic.begin(), arithmetic.end(), node.text) != arithmetic.end();
  type.truth = !type.number;
  return type;
}

bool can_be_equal(const WhereType& a, const WhereType& b) {
  if ((a.number && b.number) || (a.truth && b.truth)) return true;
  const auto has_text = [](const WhereType& type) { return type.any_text || !type.words.empty(); };
  if ((a.any_text && has_text(b)) || (b.any_text && has_text(a))) return true;
  return std::any_of(a.words.begin(), a.words.end(), [&](const std::string& word) {
    return std::find(b.words.begin(), b.words.end(), word) != b.words.end();
  });
}

/// "a number or one of auto, none".
std::string describe(const WhereType& type) {
  std::vector<std::string> parts;
  if (type.number) parts.emplace_back("a number");
  if (type.truth) parts.emplace_back("true or false");
  if (type.any_text) parts.emplace_back("text");
  if (!type.any_text && !type.words.empty()) parts.push_back("one of the texts " + join(type.words));
  return parts.empty() ? "never a single value" : join(parts, " or ");
}

std::string describe(const Node& node, const TypeOf& type_of) {
  if (node.kind == Node::Kind::literal) return describe(node.value);
  const std::string type = describe(type_of_node(node, type_of));
  return node.kind == Node::Kind::name ? fmt::format("{} ({})", node.text, type) : type;
}

/// How to write a literal so that it is of the other side's type, or nothing.
std::string cure(const Node& node, const WhereType& other) {
  if (node.kind != Node::Kind::literal) return {};
  if (const auto* text = std::get_if<std::string>(&node.value)) {
    const std::string near = nearest_name(*text, other.words);
    if (!near.empty()) return fmt::format("; did you mean '{}'?", near);
    return other.number || other.truth ? "; write it without quotes" : "";
  }
  return other.any_text || !other.words.empty() ? "; write it in quotes" : "";
}

std::string impossible(const Node& node, const TypeOf& type_of) {
  for (const NodePointer& operand : node.operands)
    if (std::string found = impossible(*operand, type_of); !found.empty()) return found;
  if (node.kind != Node::Kind::operation || !is_comparison(node.text)) return {};
  const Node& left = *node.operands[0];
  const Node& right = *node.operands[1];
  const WhereType left_type = type_of_node(left, type_of);
  const WhereType right_type = type_of_node(right, type_of);
  if (can_be_equal(left_type, right_type)) return {};
  return fmt::format("compares {} with {}: they are never equal{}{}", describe(left, type_of),
                     describe(right, type_of), cure(left, right_type), cure(right, left_type));
}

}  // namespace

WhereExpression::WhereExpression(std::string text) : text_(std::move(text)) {
  if (text_.size() > kMaximumLength) fail_usage(fmt::format("is longer than {} characters", kMaximumLength));
  Parser parser(text_);
  root_ = parser.parse();
  names_ = parser.names();
}

std::string WhereExpression::impossible_comparison(const TypeOf& type_of) const {
  return impossible(*root_, type_of);
}

bool WhereExpression::evaluate(const std::function<WhereValue(const std::string&)>& value_of) const {
  const WhereValue value = hyperattn::evaluate(*root_, value_of);
  if (const auto* truth = std::get_if<bool>(&value)) return *truth;
  fail_usage("must be true or false, but is " + describe(value));
}

}  // namespace hyperattn
