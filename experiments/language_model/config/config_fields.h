// The fields of a model's config.json, with an account of which were read: what changes the computation is
// honoured or refused, never passed over.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <vector>

namespace hyperattn {

/// Typed access to an object of config.json. A key that is null counts as absent. Every refusal is an
/// Error(input) that names file, key, value and what is allowed. Refers to the document.
class ConfigFields {
 public:
  /// `name` stands for the object in messages.
  ConfigFields(const nlohmann::json& document, std::string name);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] bool has(const std::string& key) const;
  /// Whether the key is there and null, where that differs from its default.
  [[nodiscard]] bool is_null(const std::string& key) const;
  /// Null where the key is absent.
  [[nodiscard]] const nlohmann::json& value(const std::string& key) const;
  [[noreturn]] void refuse(const std::string& key, const std::string& allowed) const;

  /// Integers from 1 to 2^30. Without a fallback the key must be there.
  [[nodiscard]] int64_t size(const std::string& key) const;
  [[nodiscard]] int64_t size(const std::string& key, int64_t fallback) const;
  /// The same for a key that has two names: both are read, and must agree.
  [[nodiscard]] int64_t size_named(const std::string& key, const std::string& other) const;
  [[nodiscard]] double positive(const std::string& key) const;
  [[nodiscard]] double positive(const std::string& key, double fallback) const;
  [[nodiscard]] double number(const std::string& key, double fallback) const;
  [[nodiscard]] bool flag(const std::string& key, bool fallback = false) const;
  [[nodiscard]] std::string text(const std::string& key, const std::string& fallback) const;
  /// A list of texts or of positive numbers; empty where the key is absent.
  [[nodiscard]] std::vector<std::string> texts(const std::string& key) const;
  [[nodiscard]] std::vector<double> positive_numbers(const std::string& key) const;

  /// Says that the keys have no effect on this model, whatever they hold.
  void without_effect(std::initializer_list<const char*> keys) const;
  /// Refuses every key that was neither read nor is known to have no effect, unless its value says that it is
  /// off (null, false, an empty text or list).
  void refuse_unread(const std::string& model) const;

 private:
  const nlohmann::json& document_;
  std::string name_;
  mutable std::set<std::string> read_;
};

}  // namespace hyperattn
