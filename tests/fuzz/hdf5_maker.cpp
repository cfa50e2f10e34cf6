#include "tests/fuzz/hdf5_maker.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "tests/fuzz/promises.h"

namespace hyperattn::fuzz {
namespace {

// Bytes that are really written; a larger dataset stays without values.
constexpr hsize_t kMaxValues = 1 << 14;
constexpr hsize_t kMaxChunk = 1 << 10;  // elements: HDF5 writes every chunk whole, even for one element

/// The identifier of a property list, type or space, closed at the end of its scope.
class Handle {
 public:
  Handle(hid_t id, herr_t (*closer)(hid_t)) : id_(id), closer_(closer) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), closer_(other.closer_) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(closer_, other.closer_);
    return *this;
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() {
    if (id_ >= 0) closer_(id_);
  }
  operator hid_t() const { return id_; }  // NOLINT(google-explicit-constructor)

 private:
  hid_t id_;
  herr_t (*closer_)(hid_t);
};

Handle type_handle(hid_t id) {
  return {id, H5Tclose};
}

hsize_t extent(Choices& choices) {
  static constexpr std::array<hsize_t, 16> kExtents{
      1, 2, 3, 4, 5, 7, 8, 16, 0, 100, 1000, 65536, hsize_t{1} << 31, hsize_t{1} << 40, hsize_t{1} << 62, 6};
  return choices.of(kExtents);
}

std::vector<hsize_t> any_shape(Choices& choices) {
  std::vector<hsize_t> shape(choices.below(7));
  for (hsize_t& size : shape) size = extent(choices);
  return shape;
}

/// A float of any layout: sizes, biases and orders that no processor has.
hid_t odd_float(Choices& choices) {
  const hid_t type = H5Tcopy(choices.rarely(2) ? H5T_IEEE_F64BE : H5T_IEEE_F32LE);
  const size_t exponent = 1 + choices.below(12);
  const size_t mantissa = 1 + choices.below(20);
  H5Tset_fields(type, exponent + mantissa, mantissa, exponent, 0, mantissa);
  H5Tset_ebias(type, 1 + choices.below(128));
  return type;
}

hid_t half_float(Choices& choices) {
  const hid_t type = H5Tcopy(choices.rarely(2) ? H5T_IEEE_F32BE : H5T_IEEE_F32LE);
  H5Tset_fields(type, 15, 10, 5, 0, 10);
  H5Tset_size(type, 2);
  H5Tset_ebias(type, 15);
  return type;
}

hid_t text_type(Choices& choices) {
  static constexpr std::array<size_t, 8> kSizes{8, 1, 2, 16, 40, 1000, 70000, size_t{1} << 21};
  const hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, choices.rarely(4) ? H5T_VARIABLE : choices.of(kSizes));
  H5Tset_strpad(type, static_cast<H5T_str_t>(choices.below(3)));
  if (choices.rarely(2)) H5Tset_cset(type, H5T_CSET_UTF8);
  return type;
}

hid_t enumeration(Choices& choices) {
  const hid_t type = H5Tenum_create(choices.rarely(4) ? H5T_STD_I64LE : H5T_NATIVE_INT8);
  const std::array<int64_t, 2> values{0, choices.byte()};
  H5Tenum_insert(type, "FALSE", &values[0]);
  H5Tenum_insert(type, "TRUE", &values[1]);
  return type;
}

Handle any_type(Choices& choices, int depth = 0);

hid_t compound(Choices& choices, int depth) {
  const size_t members = 1 + choices.below(depth == 0 ? 6 : 2);
  std::vector<Handle> types;
  size_t size = 0;
  for (size_t i = 0; i < members; ++i) {
    types.push_back(any_type(choices, depth + 1));
    size += H5Tget_size(types.back()) + choices.below(3);
  }
  const hid_t type = H5Tcreate(H5T_COMPOUND, size);
  size_t offset = 0;
  for (size_t i = 0; i < members; ++i) {
    H5Tinsert(type, ("c" + std::to_string(i)).c_str(), offset, types[i]);
    offset += H5Tget_size(types[i]);
  }
  return type;
}

Handle any_type(Choices& choices, int depth) {
  const std::array<hid_t, 14> numbers{H5T_IEEE_F32LE,     H5T_IEEE_F64LE, H5T_STD_I64LE,  H5T_STD_I32LE,
                                      H5T_STD_U64LE,      H5T_STD_I8LE,   H5T_STD_U8LE,   H5T_STD_I16BE,
                                      H5T_STD_U32BE,      H5T_IEEE_F32BE, H5T_IEEE_F64BE, H5T_STD_U64BE,
                                      H5T_NATIVE_LDOUBLE, H5T_STD_B32LE};
  switch (choices.below(12)) {
    case 1:
      return type_handle(text_type(choices));
    case 2:
      return type_handle(half_float(choices));
    case 3:
      return type_handle(odd_float(choices));
    case 4:
      return type_handle(enumeration(choices));
    case 5:
      return type_handle(H5Tcreate(H5T_OPAQUE, 1 + choices.below(20)));
    case 6:
      return type_handle(H5Tcopy(H5T_STD_REF_OBJ));
    case 7:
      if (depth < 2) return type_handle(compound(choices, depth));
      break;
    case 8:
      if (depth < 2) {
        const hsize_t length = 1 + choices.below(4);
        return type_handle(H5Tarray_create2(any_type(choices, depth + 1), 1, &length));
      }
      break;
    case 9:
      if (depth < 2) return type_handle(H5Tvlen_create(any_type(choices, depth + 1)));
      break;
    default:
      break;
  }
  return type_handle(H5Tcopy(choices.of(numbers)));
}

Handle any_space(Choices& choices, const std::vector<hsize_t>& shape) {
  if (shape.empty()) return {H5Screate(choices.rarely(4) ? H5S_NULL : H5S_SCALAR), H5Sclose};
  std::vector<hsize_t> largest = shape;
  const bool grows = choices.rarely(4);
  for (hsize_t& size : largest)
    if (grows) size = H5S_UNLIMITED;
  return {H5Screate_simple(static_cast<int>(shape.size()), shape.data(), largest.data()), H5Sclose};
}

/// Creation properties: contiguous, compact, chunked, filtered, elsewhere.
Handle any_storage(Choices& choices, const std::vector<hsize_t>& shape) {
  Handle properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  const size_t kind = choices.below(8);
  if (kind == 1) H5Pset_layout(properties, H5D_COMPACT);
  if (kind == 2) H5Pset_external(properties, "elsewhere.bin", 0, H5F_UNLIMITED);
  if (kind == 3) {
    const Handle source(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr), H5Sclose);
    H5Pset_virtual(properties, source, "elsewhere.h5", "/q", source);
  }
  if (kind >= 4 && !shape.empty()) {
    std::vector<hsize_t> chunk(shape.size());
    hsize_t elements = 1;
    for (hsize_t& size : chunk) {
      size = std::max<hsize_t>(1, std::min(extent(choices), kMaxChunk / elements));
      elements *= size;
    }
    H5Pset_chunk(properties, static_cast<int>(chunk.size()), chunk.data());
    if (kind == 5) H5Pset_deflate(properties, 9);
    if (kind == 6) H5Pset_shuffle(properties);
    if (kind == 7) H5Pset_fletcher32(properties);
  }
  H5Pset_fill_time(properties, static_cast<H5D_fill_time_t>(choices.below(3)));
  return properties;
}

bool holds_pointers(hid_t type) {
  return H5Tdetect_class(type, H5T_VLEN) > 0 || H5Tis_variable_str(type) > 0 ||
         H5Tdetect_class(type, H5T_REFERENCE) > 0;
}

/// The members' own variable-length texts: H5Tdetect_class does not look for them.
bool has_variable_text(hid_t type) {
  if (H5Tis_variable_str(type) > 0) return true;
  if (H5Tget_class(type) == H5T_COMPOUND) {
    for (int i = 0; i < H5Tget_nmembers(type); ++i)
      if (has_variable_text(type_handle(H5Tget_member_type(type, static_cast<unsigned>(i))))) return true;
    return false;
  }
  const H5T_class_t kind = H5Tget_class(type);
  if (kind != H5T_ARRAY && kind != H5T_VLEN) return false;
  return has_variable_text(type_handle(H5Tget_super(type)));
}

/// Bytes of all elements, or more than kMaxValues where that is much.
hsize_t bytes_of(hid_t type, hid_t space) {
  const hssize_t elements = H5Sget_simple_extent_npoints(space);
  const size_t size = H5Tget_size(type);
  if (elements < 0 || static_cast<hsize_t>(elements) > kMaxValues || size > kMaxValues) return kMaxValues + 1;
  return static_cast<hsize_t>(elements) * size;
}

/// A value for each element, or nothing where they are too many or hold pointers (then a few texts at most).
std::string values_for(hid_t type, hid_t space, Choices& choices) {
  const hsize_t bytes = bytes_of(type, space);
  if (bytes == 0 || bytes > kMaxValues || holds_pointers(type) || has_variable_text(type)) return {};
  return choices.text(bytes);
}

void write_variable_text(hid_t dataset, hid_t type, hid_t space, Choices& choices, bool attribute) {
  if (H5Tis_variable_str(type) <= 0 || H5Sget_simple_extent_npoints(space) != 1) return;
  const std::string text = choices.text(choices.byte());
  const char* pointer = text.c_str();
  if (attribute)
    H5Awrite(dataset, type, &pointer);
  else
    H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, &pointer);
}

Handle memory_access() {
  Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
  H5Pset_fapl_core(access, 1 << 20, 0);
  return access;
}

Handle with_groups() {
  Handle links(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
  H5Pset_create_intermediate_group(links, 1);
  return links;
}

/// What HDF5 refuses while a file is made (a path through a dataset, a compact dataset that is too big) is no
/// news.
void be_silent() {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

/// A dataset of a compound type.
struct Table {
  std::vector<char> rows;
  hsize_t count = 0;
  size_t row_bytes = 0;
  std::vector<std::string> names;
  std::vector<Handle> types;
  std::vector<size_t> offsets;
};

/// False where there is no table, or one whose rows cannot be copied as bytes.
bool read_table(hid_t file, const std::string& path, Table& table) {
  const Handle id(H5Dopen2(file, path.c_str(), H5P_DEFAULT), H5Dclose);
  if (id < 0) return false;
  const Handle type(H5Dget_type(id), H5Tclose);
  const Handle space(H5Dget_space(id), H5Sclose);
  const hssize_t points = H5Sget_simple_extent_npoints(space);
  if (H5Tget_class(type) != H5T_COMPOUND || points < 0 || points > 100) return false;
  table.count = static_cast<hsize_t>(points);
  table.row_bytes = H5Tget_size(type);
  if (table.row_bytes > kMaxValues || holds_pointers(type) || has_variable_text(type)) return false;
  table.rows.resize(table.count * table.row_bytes);
  if (points > 0 && H5Dread(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, table.rows.data()) < 0) return false;
  for (unsigned i = 0; i < static_cast<unsigned>(H5Tget_nmembers(type)); ++i) {
    char* name = H5Tget_member_name(type, i);
    table.names.emplace_back(name);
    H5free_memory(name);
    table.types.push_back(type_handle(H5Tget_member_type(type, i)));
    table.offsets.push_back(H5Tget_member_offset(type, i));
  }
  return true;
}

void change(Table& table, Choices& choices) {
  const size_t column = choices.byte() % table.names.size();
  const auto place = static_cast<std::ptrdiff_t>(column);
  switch (choices.below(5)) {
    case 0: {  // other bytes in one cell
      if (table.count == 0) return;
      const std::string value = choices.text(std::min<size_t>(H5Tget_size(table.types[column]), 64));
      const size_t row = choices.byte() % table.count;
      std::memcpy(table.rows.data() + row * table.row_bytes + table.offsets[column], value.data(),
                  value.size());
      return;
    }
    case 1: {  // a row twice
      if (table.count == 0) return;
      const std::vector<char> first(table.rows.begin(),
                                    table.rows.begin() + static_cast<std::ptrdiff_t>(table.row_bytes));
      table.rows.insert(table.rows.begin(), first.begin(), first.end());
      ++table.count;
      return;
    }
    case 2:  // a row less
      table.count -= table.count > 0 ? 1 : 0;
      return;
    case 3:  // another name
      table.names[column] = choices.text(1 + choices.below(8));
      return;
    default:  // without the column
      table.names.erase(table.names.begin() + place);
      table.types.erase(table.types.begin() + place);
      table.offsets.erase(table.offsets.begin() + place);
  }
}

void write_table(hid_t file, const std::string& path, const Table& table) {
  const Handle type(H5Tcreate(H5T_COMPOUND, table.row_bytes), H5Tclose);
  for (size_t i = 0; i < table.names.size(); ++i)
    H5Tinsert(type, table.names[i].c_str(), table.offsets[i], table.types[i]);
  const Handle space(H5Screate_simple(1, &table.count, nullptr), H5Sclose);
  const Handle id(H5Dcreate2(file, path.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                  H5Dclose);
  if (id >= 0 && table.count > 0) H5Dwrite(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, table.rows.data());
}

}  // namespace

Hdf5Maker::Hdf5Maker() {
  be_silent();
  file_ = H5Fcreate("made.h5", H5F_ACC_TRUNC, H5P_DEFAULT, memory_access());
  promise(file_ >= 0, "a file can be made in memory");
}

Hdf5Maker::Hdf5Maker(const std::string& image) {
  be_silent();
  const Handle access = memory_access();
  std::string copy = image;
  H5Pset_file_image(access, copy.data(), copy.size());
  file_ = H5Fopen("made.h5", H5F_ACC_RDWR, access);
  promise(file_ >= 0, "a good file can be opened");
}

Hdf5Maker::~Hdf5Maker() {
  H5Fclose(file_);
}

void Hdf5Maker::remove(const std::string& path) {
  if (H5Lexists(file_, path.c_str(), H5P_DEFAULT) > 0) H5Ldelete(file_, path.c_str(), H5P_DEFAULT);
}

void Hdf5Maker::dataset(const std::string& path, const Expected& expected, Choices& choices) {
  remove(path);
  if (choices.rarely(16)) return;
  if (choices.rarely(16)) return link(path, choices);
  const bool other_type = choices.rarely(4);
  const Handle type = other_type ? any_type(choices)
                                 : type_handle(H5Tcopy(expected.integers ? H5T_STD_I64LE : H5T_IEEE_F32LE));
  const std::vector<hsize_t> shape = choices.rarely(4) ? any_shape(choices) : expected.shape;
  const Handle space = any_space(choices, shape);
  const Handle storage = any_storage(choices, shape);
  const Handle links = with_groups();
  const Handle id(H5Dcreate2(file_, path.c_str(), type, space, links, storage, H5P_DEFAULT), H5Dclose);
  if (id < 0 || H5Pget_external_count(storage) > 0) return;  // values would be written beside the file
  const std::string values = values_for(type, space, choices);
  if (!values.empty()) H5Dwrite(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  write_variable_text(id, type, space, choices, false);
}

void Hdf5Maker::attribute(const std::string& object, const std::string& name, Choices& choices) {
  const Handle owner(H5Oopen(file_, object.c_str(), H5P_DEFAULT), H5Oclose);
  if (owner < 0) return;
  if (H5Aexists(owner, name.c_str()) > 0) H5Adelete(owner, name.c_str());
  if (choices.rarely(8)) return;
  const Handle type = any_type(choices);
  const Handle space = any_space(choices, choices.rarely(4) ? any_shape(choices) : std::vector<hsize_t>{});
  if (bytes_of(type, space) > kMaxValues) return;  // an attribute's values are always stored
  const Handle id(H5Acreate2(owner, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  if (id < 0) return;
  const std::string values = values_for(type, space, choices);
  if (!values.empty()) H5Awrite(id, type, values.data());
  write_variable_text(id, type, space, choices, true);
}

void Hdf5Maker::link(const std::string& path, Choices& choices) {
  static constexpr std::array<const char*, 6> kGoals{"/", "/inputs", "/nowhere", ".", "/inputs/q", "/trials"};
  remove(path);
  const Handle links = with_groups();
  switch (choices.below(6)) {
    case 0:
      H5Lcreate_soft(choices.of(kGoals), file_, path.c_str(), links, H5P_DEFAULT);
      return;
    case 1:
      H5Lcreate_soft(path.c_str(), file_, path.c_str(), links, H5P_DEFAULT);
      return;
    case 2:
      H5Lcreate_external("elsewhere.h5", "/q", file_, path.c_str(), links, H5P_DEFAULT);
      return;
    case 3:
      H5Lcreate_hard(file_, choices.of(kGoals), file_, path.c_str(), links, H5P_DEFAULT);
      return;
    case 4:
      H5Gclose(H5Gcreate2(file_, path.c_str(), links, H5P_DEFAULT, H5P_DEFAULT));
      return;
    default:
      H5Tcommit2(file_, path.c_str(), any_type(choices), links, H5P_DEFAULT, H5P_DEFAULT);
  }
}

void Hdf5Maker::change_table(const std::string& path, Choices& choices) {
  Table table;
  if (!read_table(file_, path, table)) return;
  change(table, choices);
  remove(path);
  write_table(file_, path, table);
}

std::string Hdf5Maker::image() {
  H5Fflush(file_, H5F_SCOPE_GLOBAL);
  const ssize_t size = H5Fget_file_image(file_, nullptr, 0);
  promise(size > 0, "a made file has an image");
  std::string bytes(static_cast<size_t>(size), '\0');
  H5Fget_file_image(file_, bytes.data(), bytes.size());
  return bytes;
}

}  // namespace hyperattn::fuzz
