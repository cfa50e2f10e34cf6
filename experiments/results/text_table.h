#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace hyperattn {

/// A plain-text table for a terminal: aligned columns, and, where they are too many for the width, several
/// blocks of them, each beginning with the same key columns.
class TextTable {
 public:
  enum class Align { left, right };

  /// Key columns come first; they are repeated in every block.
  void add_key_column(const std::string& title, Align align);
  void add_column(const std::string& title, Align align);
  /// As many cells as there are columns.
  void add_row(std::vector<std::string> cells);

  [[nodiscard]] bool empty() const { return rows_.empty(); }
  /// Columns, other than key columns, whose cells are all empty are left out.
  void print(std::ostream& out, size_t width) const;

 private:
  struct Column {
    std::string title;
    Align align = Align::left;
    size_t width = 0;
    bool empty = true;  ///< all cells
  };
  void print_block(std::ostream& out, const std::vector<size_t>& columns) const;

  std::vector<Column> columns_;
  size_t keys_ = 0;
  std::vector<std::vector<std::string>> rows_;
};

/// Columns that UTF-8 text takes on a terminal: 2 for a wide character (Chinese, Japanese, Korean), 0 for one
/// that is put over another.
[[nodiscard]] size_t text_width(const std::string& text);
/// The text, or its beginning and its end around "…", in at most `width` columns.
[[nodiscard]] std::string shortened_text(const std::string& text, size_t width);
/// `words` with ", " between them, broken into lines of at most `width` columns that begin with `indent`.
[[nodiscard]] std::string wrapped_list(const std::vector<std::string>& words, const std::string& indent,
                                       size_t width);
/// On one line, and without control characters and stray bytes, which an untrusted file could use to drive
/// the terminal.
[[nodiscard]] std::string one_line(const std::string& text);

}  // namespace hyperattn
