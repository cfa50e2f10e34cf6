// Declared parameters: a backend, an input source or a measure states each parameter once (name, type,
// default, range, unit, one line of meaning, and when it has an effect); validation, `hyperattn list`, the
// JSON Schema, the columns of results and the scripts all read that declaration.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace hyperattn {

using IntegerList = std::vector<int64_t>;
using ParameterValue = std::variant<int64_t, double, bool, std::string, IntegerList>;

enum class ParameterType {
  integer,       ///< holds int64_t, or one of `choices` as text (such as `auto`)
  number,        ///< holds double, or one of `choices` as text
  boolean,       ///< holds bool
  text,          ///< holds std::string
  choice,        ///< holds std::string, one of `choices`
  integer_list,  ///< holds IntegerList
};

/// What another parameter has to be for a parameter to have an effect: the alternatives, any of which will
/// do.
struct EffectCondition {
  struct Alternative {
    std::string parameter;
    std::vector<ParameterValue> values;
    bool excluded = false;  ///< any value but these
  };
  std::vector<Alternative> alternatives;
};

/// A default in place of the usual one where another parameter has this value.
struct OtherDefault {
  std::string parameter;
  ParameterValue with;
  ParameterValue value;
};

struct ParameterSpec {
  std::string name;
  ParameterType type = ParameterType::integer;
  std::optional<ParameterValue> default_value;  ///< none: required, unless `optional`
  std::vector<OtherDefault> other_defaults;     ///< the first that applies counts
  std::string meaning;                          ///< one line
  std::string unit;                             ///< empty: a count, a ratio, or none
  std::string column;  ///< of results, where the parameter's name stands for something else there
  double minimum = -std::numeric_limits<double>::infinity();
  double maximum =
      std::numeric_limits<double>::infinity();  ///< inclusive; `.inf` itself only if allow_infinity
  std::vector<std::string> choices;
  std::vector<std::string> choice_meanings;  ///< one for each choice, or empty
  bool power_of_two = false;
  bool allow_infinity = false;
  bool optional = false;  ///< may be absent without a default (then `Parameters::has` is false)
  std::vector<EffectCondition> conditions;  ///< all must hold, else the value changes nothing

  // All of them as the compiler makes them, but once: in every declaration they would be its largest part.
  ParameterSpec();
  ParameterSpec(const ParameterSpec&);
  ParameterSpec(ParameterSpec&&) noexcept;
  ParameterSpec& operator=(const ParameterSpec&);
  ParameterSpec& operator=(ParameterSpec&&) noexcept;
  ~ParameterSpec();

  // A copy with one more thing said, so that a declaration is one expression:
  //   integer_parameter("rows", "sampled rows").at_least(1).by_default(32)
  [[nodiscard]] ParameterSpec by_default(ParameterValue value) const;
  [[nodiscard]] ParameterSpec at_least(double limit) const;
  [[nodiscard]] ParameterSpec between(double least, double most) const;
  [[nodiscard]] ParameterSpec or_word(const std::string& word) const;
  [[nodiscard]] ParameterSpec or_infinity() const;
  [[nodiscard]] ParameterSpec or_absent() const;
  [[nodiscard]] ParameterSpec in_unit(const std::string& name_of_unit) const;
  [[nodiscard]] ParameterSpec in_column(const std::string& name_of_column) const;
  /// Has effect only where `parameter` has one of these values and an effect itself. Several such conditions
  /// must all hold.
  [[nodiscard]] ParameterSpec only_with(const std::string& parameter,
                                        std::vector<ParameterValue> values) const;
  /// Has effect only where `parameter` has another value than these.
  [[nodiscard]] ParameterSpec not_with(const std::string& parameter,
                                       std::vector<ParameterValue> values) const;
  /// Another way to meet the condition stated last.
  [[nodiscard]] ParameterSpec or_with(const std::string& parameter, std::vector<ParameterValue> values) const;
};

[[nodiscard]] ParameterSpec integer_parameter(const std::string& name, const std::string& meaning);
[[nodiscard]] ParameterSpec number_parameter(const std::string& name, const std::string& meaning);
[[nodiscard]] ParameterSpec text_parameter(const std::string& name, const std::string& meaning);
[[nodiscard]] ParameterSpec integer_list_parameter(const std::string& name, const std::string& meaning);
/// False unless given.
[[nodiscard]] ParameterSpec boolean_parameter(const std::string& name, const std::string& meaning);
/// The first of the choices unless given.
[[nodiscard]] ParameterSpec choice_parameter(const std::string& name, std::vector<std::string> choices,
                                             const std::string& meaning);

/// Resolved values by name. A getter for a name that is absent or of another type is a broken invariant (it
/// throws std::logic_error): the reader has checked the values against the specs before.
class Parameters {
 public:
  void set(const std::string& name, ParameterValue value) { values_[name] = std::move(value); }
  void erase(const std::string& name) { values_.erase(name); }
  [[nodiscard]] bool has(const std::string& name) const { return values_.count(name) != 0; }
  [[nodiscard]] const std::map<std::string, ParameterValue>& all() const { return values_; }

  [[nodiscard]] int64_t integer(const std::string& name) const;
  [[nodiscard]] double number(const std::string& name) const;  ///< accepts an integer too
  [[nodiscard]] bool boolean(const std::string& name) const;
  [[nodiscard]] const std::string& text(const std::string& name) const;
  [[nodiscard]] const IntegerList& integers(const std::string& name) const;
  /// Whether a `number` holds one of its words (such as `auto`) instead.
  [[nodiscard]] bool is_text(const std::string& name) const;

  bool operator==(const Parameters&) const = default;

 private:
  std::map<std::string, ParameterValue> values_;
};

/// "integer", "integer_list": the type's word in declarations that programs read.
[[nodiscard]] const char* parameter_type_word(ParameterType type);

/// "2.5", "true", "[1, 2]": as YAML writes it; numbers in the shortest form that reads back to the same
/// value.
[[nodiscard]] std::string to_string(const ParameterValue& value);

/// An empty string if `value` is allowed by `spec`; otherwise what is wrong and what is allowed, for example
/// "must be a power of two, but is 96".
[[nodiscard]] std::string check_parameter(const ParameterSpec& spec, const ParameterValue& value);

/// The declaration of that name, or null.
[[nodiscard]] const ParameterSpec* find_spec(const std::vector<ParameterSpec>& specs,
                                             const std::string& name);

/// Whether `value` meets the alternative; the effect of the other parameter itself is not looked at.
[[nodiscard]] bool admits(const EffectCondition::Alternative& alternative, const ParameterValue& value);

/// Empty if the parameter has an effect where all have these values; else why not: "has effect only with
/// mask: file, but mask is band". `specs` holds the declarations of the parameters that conditions name; a
/// condition on parameters that have no value here holds.
[[nodiscard]] std::string why_no_effect(const ParameterSpec& spec, const std::vector<ParameterSpec>& specs,
                                        const Parameters& values);

/// "mask: sort_lsh and buckets: lsh": the parameter's conditions; empty if it always has an effect.
[[nodiscard]] std::string effect_text(const ParameterSpec& spec, const std::vector<ParameterSpec>& specs);

/// The default of a parameter where the others have these values; none: it has to be given, or is optional.
[[nodiscard]] std::optional<ParameterValue> default_of(const ParameterSpec& spec, const Parameters& others);

/// The defaults of all specs that have one.
[[nodiscard]] Parameters default_parameters(const std::vector<ParameterSpec>& specs);

/// Those that are the same whatever other parameters are, for a reader who does not know these yet; with
/// `complete_defaults` afterwards.
[[nodiscard]] Parameters independent_defaults(const std::vector<ParameterSpec>& specs);

/// Gives each parameter that has no value and whose default depends on others the one that these give it.
void complete_defaults(const std::vector<ParameterSpec>& specs, Parameters& parameters);

/// "bf16 with engine: cuda": the defaults that depend on others; empty if there are none.
[[nodiscard]] std::string other_defaults_text(const ParameterSpec& spec);

/// The candidate nearest to `name` by edit distance, or an empty string when none is near (for suggestions).
[[nodiscard]] std::string nearest_name(const std::string& name, const std::vector<std::string>& candidates);

}  // namespace hyperattn
