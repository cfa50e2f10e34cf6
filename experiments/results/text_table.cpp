#include "experiments/results/text_table.h"

#include <locale.h>
#include <wchar.h>

#include <algorithm>
#include <cwchar>
#include <stdexcept>
#include <utility>

#include "core/utf8.h"

namespace hyperattn {
namespace {

constexpr size_t kGap = 2;

std::vector<std::string> characters_of(const std::string& text) {
  std::vector<std::string> characters;
  for (const char c : text) {
    const bool continues = (static_cast<unsigned char>(c) & 0xC0) == 0x80;
    if (continues && !characters.empty())
      characters.back() += c;
    else
      characters.emplace_back(1, c);
  }
  return characters;
}

/// The C library knows the widths of characters in a UTF-8 locale, whatever the user's own is.
class Utf8Locale {
 public:
  Utf8Locale() : locale_(::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr)) {}
  ~Utf8Locale() {
    if (locale_ != nullptr) ::freelocale(locale_);
  }
  Utf8Locale(const Utf8Locale&) = delete;
  Utf8Locale& operator=(const Utf8Locale&) = delete;

  /// 1 where nothing is known.
  [[nodiscard]] size_t width(const std::string& character) const {
    if (locale_ == nullptr) return 1;
    const locale_t before = ::uselocale(locale_);
    wchar_t wide = 0;
    std::mbstate_t state{};
    const size_t length = std::mbrtowc(&wide, character.data(), character.size(), &state);
    const int columns = length == character.size() ? ::wcwidth(wide) : -1;
    ::uselocale(before);
    return columns < 0 ? 1 : static_cast<size_t>(columns);
  }

 private:
  locale_t locale_;
};

size_t character_width(const std::string& character) {
  static const Utf8Locale locale;
  const bool is_ascii = character.size() == 1 && static_cast<unsigned char>(character[0]) < 0x80;
  return is_ascii ? 1 : locale.width(character);
}

}  // namespace

size_t text_width(const std::string& text) {
  size_t width = 0;
  for (const std::string& character : characters_of(text)) width += character_width(character);
  return width;
}

std::string shortened_text(const std::string& text, size_t width) {
  if (text_width(text) <= width) return text;
  const std::vector<std::string> characters = characters_of(text);
  const size_t half = (width - 1) / 2;
  std::string head;
  std::string tail;
  size_t used = 0;
  for (auto c = characters.begin(); used + character_width(*c) <= half; ++c) {
    used += character_width(*c);
    head += *c;
  }
  used = 0;
  for (auto c = characters.rbegin(); used + character_width(*c) <= half; ++c) {
    used += character_width(*c);
    tail.insert(0, *c);
  }
  return head + "…" + tail;
}

std::string wrapped_list(const std::vector<std::string>& words, const std::string& indent, size_t width) {
  std::string text;
  size_t used = 0;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string word = words[i] + (i + 1 < words.size() ? "," : "");
    const bool fits = used > 0 && used + 1 + text_width(word) <= width;
    if (used > 0) text += fits ? " " : "\n";
    if (!fits) text += indent;
    used = (fits ? used + 1 : text_width(indent)) + text_width(word);
    text += word;
  }
  return text;
}

std::string one_line(const std::string& text) {
  std::string line = text;
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c == '\n' || c == '\t' || c == '\r'; }, ' ');
  return printable(line);
}

void TextTable::add_key_column(const std::string& title, Align align) {
  if (keys_ != columns_.size()) throw std::logic_error("key columns come first");
  add_column(title, align);
  ++keys_;
}

void TextTable::add_column(const std::string& title, Align align) {
  columns_.push_back({title, align, text_width(title), true});
}

void TextTable::add_row(std::vector<std::string> cells) {
  if (cells.size() != columns_.size()) throw std::logic_error("a row must have as many cells as columns");
  for (size_t c = 0; c < cells.size(); ++c) {
    cells[c] = one_line(cells[c]);
    columns_[c].width = std::max(columns_[c].width, text_width(cells[c]));
    columns_[c].empty = columns_[c].empty && cells[c].empty();
  }
  rows_.push_back(std::move(cells));
}

void TextTable::print(std::ostream& out, size_t width) const {
  std::vector<size_t> keys;
  std::vector<size_t> others;
  size_t key_width = 0;
  for (size_t c = 0; c < columns_.size(); ++c) {
    if (c < keys_) key_width += columns_[c].width + kGap;
    if (c < keys_) keys.push_back(c);
    if (c >= keys_ && !columns_[c].empty) others.push_back(c);
  }
  size_t next = 0;
  do {
    if (next > 0) out << '\n';
    std::vector<size_t> block = keys;
    size_t used = key_width;
    while (next < others.size() && (block.size() == keys_ || used + columns_[others[next]].width <= width)) {
      used += columns_[others[next]].width + kGap;
      block.push_back(others[next++]);
    }
    print_block(out, block);
  } while (next < others.size());
}

void TextTable::print_block(std::ostream& out, const std::vector<size_t>& columns) const {
  const auto print_line = [&](const auto& cell) {
    std::string line;
    for (size_t c : columns) {
      const std::string text = cell(c);
      const std::string padding(columns_[c].width - text_width(text), ' ');
      if (c != columns.front()) line += std::string(kGap, ' ');
      line += columns_[c].align == Align::left ? text + padding : padding + text;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out << line << '\n';
  };
  print_line([&](size_t c) { return columns_[c].title; });
  for (const std::vector<std::string>& row : rows_) print_line([&](size_t c) { return row[c]; });
}

}  // namespace hyperattn
