// Tables of named columns in an HDF5 file: compound datasets, packed and unpacked by columns.
#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <stdexcept>

#include "core/checked.h"
#include "core/utf8.h"
#include "experiments/files/hdf5_internal.h"

namespace hyperattn {

using namespace hdf5;

namespace {

constexpr int64_t kMaxTableColumns = 4096;
constexpr int64_t kMaxTableText = 1 << 20;
constexpr int64_t kCompressFrom = kMiB / 4;

/// One member of a packed row in memory.
struct Field {
  std::string name;
  ElementClass element = ElementClass::other;
  size_t offset = 0;
  size_t size = 8;
  bool is_unsigned = false;  ///< of an integer: 64 bits without a sign
  H5T_str_t padding = H5T_STR_NULLPAD;
  Id type;
};

Id compound_of(const std::vector<Field>& fields, size_t row_bytes) {
  Id type(H5Tcreate(H5T_COMPOUND, row_bytes), H5Tclose);
  for (const Field& field : fields)
    if (H5Tinsert(type.get(), field.name.c_str(), field.offset, field.type.get()) < 0) return {};
  return type;
}

/// Sets offsets; returns the bytes of a packed row.
size_t pack(std::vector<Field>& fields) {
  size_t offset = 0;
  for (Field& field : fields) {
    field.offset = offset;
    offset += field.size;
  }
  return offset;
}

template <class T>
std::vector<T> unpack_numbers(const Buffer<char>& rows, size_t row_bytes, const Field& field) {
  std::vector<T> values(static_cast<size_t>(rows.size()) / row_bytes);
  for (size_t i = 0; i < values.size(); ++i)
    std::memcpy(&values[i], rows.data() + i * row_bytes + field.offset, sizeof(T));
  return values;
}

std::vector<std::string> unpack_texts(const Buffer<char>& rows, size_t row_bytes, const Field& field) {
  std::vector<std::string> values(static_cast<size_t>(rows.size()) / row_bytes);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = field_text(rows.data() + i * row_bytes + field.offset, field.size, field.padding);
  return values;
}

/// As signed numbers, unless one is beyond their range.
TableColumn::Values without_sign(std::vector<uint64_t> values) {
  constexpr auto kLargest = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  if (std::any_of(values.begin(), values.end(), [](uint64_t value) { return value > kLargest; }))
    return values;
  return std::vector<int64_t>(values.begin(), values.end());
}

TableColumn::Values unpack(const Buffer<char>& rows, size_t row_bytes, const Field& field) {
  switch (field.element) {
    case ElementClass::integer:
      if (field.is_unsigned) return without_sign(unpack_numbers<uint64_t>(rows, row_bytes, field));
      return unpack_numbers<int64_t>(rows, row_bytes, field);
    case ElementClass::real:
      return unpack_numbers<double>(rows, row_bytes, field);
    default:
      return unpack_texts(rows, row_bytes, field);
  }
}

/// How a column lies in a row that is written.
Field field_of(const TableColumn& column) {
  Field field;
  field.name = column.name;
  if (std::holds_alternative<std::vector<int64_t>>(column.values)) {
    field.element = ElementClass::integer;
    field.type = Id(H5Tcopy(H5T_NATIVE_INT64), H5Tclose);
  } else if (std::holds_alternative<std::vector<uint64_t>>(column.values)) {
    field.element = ElementClass::integer;
    field.type = Id(H5Tcopy(H5T_NATIVE_UINT64), H5Tclose);
  } else if (std::holds_alternative<std::vector<double>>(column.values)) {
    field.element = ElementClass::real;
    field.type = Id(H5Tcopy(H5T_NATIVE_DOUBLE), H5Tclose);
  } else {
    field.element = ElementClass::text;
    size_t longest = 1;
    for (const std::string& text : std::get<std::vector<std::string>>(column.values))
      longest = std::max(longest, text.size());
    field.size = std::min(longest, static_cast<size_t>(kMaxTableText));
    field.type = fixed_text_type(field.size);
  }
  return field;
}

void pack_column(const TableColumn& column, const Field& field, size_t row_bytes, char* rows) {
  const auto place = [&](size_t i) { return rows + i * row_bytes + field.offset; };
  if (const auto* texts = std::get_if<std::vector<std::string>>(&column.values)) {
    for (size_t i = 0; i < texts->size(); ++i) {
      const std::string text = cut_utf8((*texts)[i], field.size);
      std::memcpy(place(i), text.data(), text.size());
    }
    return;
  }
  const auto copy_numbers = [&](const auto& numbers) {
    for (size_t i = 0; i < numbers.size(); ++i) std::memcpy(place(i), &numbers[i], sizeof numbers[i]);
  };
  if (const auto* integers = std::get_if<std::vector<int64_t>>(&column.values)) copy_numbers(*integers);
  if (const auto* seeds = std::get_if<std::vector<uint64_t>>(&column.values)) copy_numbers(*seeds);
  if (const auto* reals = std::get_if<std::vector<double>>(&column.values)) copy_numbers(*reals);
}

/// The members of a compound type as fields, in the file's order. Returns what is wrong, or nothing.
std::string read_fields(hid_t type, std::vector<Field>& fields) {
  const int members = H5Tget_nmembers(type);
  if (members < 1 || members > kMaxTableColumns)
    return fmt::format("has {} columns, but 1 to {} are accepted", members, kMaxTableColumns);
  for (int i = 0; i < members; ++i) {
    char* name = H5Tget_member_name(type, static_cast<unsigned>(i));
    const Id member(H5Tget_member_type(type, static_cast<unsigned>(i)), H5Tclose);
    Field field;
    field.name = name == nullptr ? "" : name;
    H5free_memory(name);
    if (!member.valid()) return "has an unreadable column type";
    field.element = element_type(member.get()).element;
    if (field.element == ElementClass::integer) {
      // Shorter ones fit the signed type, and callers expect it.
      field.is_unsigned = H5Tget_sign(member.get()) == H5T_SGN_NONE && H5Tget_size(member.get()) == 8;
      field.type = Id(H5Tcopy(field.is_unsigned ? H5T_NATIVE_UINT64 : H5T_NATIVE_INT64), H5Tclose);
    } else if (field.element == ElementClass::real) {
      field.type = Id(H5Tcopy(H5T_NATIVE_DOUBLE), H5Tclose);
    } else if (field.element == ElementClass::text && H5Tis_variable_str(member.get()) == 0) {
      field.size = H5Tget_size(member.get());
      if (field.size > static_cast<size_t>(kMaxTableText)) return "has a text column wider than 1 MiB";
      field.padding = H5Tget_strpad(member.get());
      field.type = Id(H5Tcopy(member.get()), H5Tclose);
    } else {
      return fmt::format("has a column '{}' that holds neither numbers nor fixed-length text", field.name);
    }
    fields.push_back(std::move(field));
  }
  return {};
}

}  // namespace

Table Hdf5File::read_table(const std::string& dataset) const {
  const Id id = impl_->open_dataset(dataset);
  const DatasetInfo info = impl_->info_of(id.get(), dataset);
  if (info.element != ElementClass::compound || info.shape.size() != 1)
    impl_->fail(dataset,
                fmt::format("must be a one-dimensional table with named columns, but holds {} of shape {}",
                            info.element_name, shape_text(info.shape)));
  impl_->check_storage(id.get(), info, dataset);
  const Id type = impl_->need_id(H5Dget_type(id.get()), H5Tclose, dataset, "has an unreadable type");
  std::vector<Field> fields;
  if (const std::string problem = read_fields(type.get(), fields); !problem.empty())
    impl_->fail(dataset, problem);
  const size_t row_bytes = pack(fields);
  // Twice: packed rows, then columns.
  require_memory(2.0 * static_cast<double>(row_bytes) * static_cast<double>(info.size()),
                 fmt::format("the table '{}'", dataset).c_str());
  const Id memory_type = compound_of(fields, row_bytes);
  if (!memory_type.valid()) impl_->fail(dataset, "has columns that can't be read" + library_message());
  const std::optional<int64_t> bytes = checked_product({info.size(), static_cast<int64_t>(row_bytes)});
  if (!bytes) impl_->fail(dataset, "has more bytes than can be counted in 63 bits");
  Buffer<char> rows(*bytes, '\0');
  if (info.size() > 0)
    impl_->need(H5Dread(id.get(), memory_type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, rows.data()), dataset,
                "can't be read");
  Table table;
  for (const Field& field : fields) table.columns.push_back({field.name, unpack(rows, row_bytes, field)});
  return table;
}

void Hdf5File::write_table(const std::string& dataset, const Table& table) {
  std::vector<Field> fields;
  for (const TableColumn& column : table.columns) {
    if (column.rows() != table.rows())
      throw std::logic_error(fmt::format("table '{}': column '{}' has {} rows, but the first has {}", dataset,
                                         column.name, column.rows(), table.rows()));
    fields.push_back(field_of(column));
  }
  const size_t row_bytes = pack(fields);
  const Id type = compound_of(fields, row_bytes);
  if (!type.valid()) impl_->fail(dataset, "can't have these columns" + library_message());
  const int64_t bytes = table.rows() * static_cast<int64_t>(row_bytes);
  Buffer<char> rows(bytes, '\0');
  for (size_t c = 0; c < fields.size(); ++c) pack_column(table.columns[c], fields[c], row_bytes, rows.data());

  const Id properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  if (bytes > kCompressFrom && H5Zfilter_avail(H5Z_FILTER_DEFLATE) > 0) {
    const hsize_t chunk_rows = std::max<hsize_t>(1, static_cast<hsize_t>(kCompressFrom) / row_bytes);
    H5Pset_chunk(properties.get(), 1, &chunk_rows);
    H5Pset_shuffle(properties.get());
    H5Pset_deflate(properties.get(), 1);
  }
  const Id space = impl_->simple_space({table.rows()}, dataset);
  const Id id = impl_->create_dataset(dataset, type.get(), space.get(), properties.get());
  if (table.rows() > 0)
    impl_->need(H5Dwrite(id.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, rows.data()), dataset,
                "could not be written");
}

}  // namespace hyperattn
