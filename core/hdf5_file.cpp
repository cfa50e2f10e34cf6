#include "core/hdf5_file.h"

#include <fcntl.h>
#include <hdf5.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>
#include <type_traits>
#include <utility>

#include "core/error.h"
#include "core/utf8.h"

namespace hyperattn {
namespace {

constexpr int64_t kMaxRank = 32;  // HDF5's own limit (H5S_MAX_RANK)
constexpr int64_t kMaxTableColumns = 4096;
constexpr int64_t kMaxTableText = 1 << 20;
constexpr size_t kMaxAttributeText = 32000;
constexpr int64_t kMiB = 1 << 20;
// A dataset beyond this size must be backed by stored bytes; deflate shrinks by at most 1032.
constexpr int64_t kUnbackedAllowed = 64 * kMiB;
constexpr int64_t kMaxCompression = 1100;
constexpr int64_t kLargeChunk = 256 * kMiB;
constexpr int64_t kCompressFrom = kMiB / 4;

/// Once per process: no printing of HDF5's own, and no clean-up at exit, which would retry writes that
/// failed.
void initialise_library() {
  static const bool done = [] {
    H5dont_atexit();
    return H5open() >= 0 && H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  }();
  if (!done) fail_environment("the HDF5 library could not be initialised");
}

/// Owns an HDF5 identifier.
class Id {
 public:
  using Closer = herr_t (*)(hid_t);

  Id() = default;
  Id(hid_t id, Closer closer) : id_(id), closer_(closer) {}
  Id(Id&& other) noexcept : id_(std::exchange(other.id_, -1)), closer_(other.closer_) {}
  Id& operator=(Id&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(closer_, other.closer_);
    return *this;
  }
  Id(const Id&) = delete;
  Id& operator=(const Id&) = delete;
  ~Id() { reset(); }

  [[nodiscard]] hid_t get() const { return id_; }
  [[nodiscard]] bool valid() const { return id_ >= 0; }
  /// Closes now; false if the library could not.
  bool reset() { return id_ < 0 || closer_(std::exchange(id_, -1)) >= 0; }

 private:
  hid_t id_ = -1;
  Closer closer_ = nullptr;
};

herr_t keep_first_message(unsigned, const H5E_error2_t* error, void* text) {
  auto& message = *static_cast<std::string*>(text);
  if (message.empty() && error->desc != nullptr) message = error->desc;
  return 0;
}

/// " (HDF5: ...)" with the innermost message of the last failed call, or nothing.
std::string library_message() {
  std::string message;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first_message, &message);
  return message.empty() ? "" : " (HDF5: " + message + ")";
}

herr_t refuse_external_link(const char*, const char*, const char*, const char*, unsigned*, hid_t, void*) {
  return -1;
}

/// Link access that never leaves the file: an untrusted file must not make us read others.
template <class MakeId>
Id inside_file(MakeId make_property_list) {
  Id properties(make_property_list, H5Pclose);
  H5Pset_elink_cb(properties.get(), refuse_external_link, nullptr);
  return properties;
}

/// An IEEE half-precision float, which this version of HDF5 has no name for.
Id half_type(H5T_order_t order) {
  Id type(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
  H5Tset_fields(type.get(), 15, 10, 5, 0, 10);
  H5Tset_size(type.get(), 2);
  H5Tset_ebias(type.get(), 15);
  H5Tset_order(type.get(), order);
  return type;
}

struct ElementType {
  ElementClass element = ElementClass::other;
  std::string name = "other";
};

/// Only exactly these number types are read: a file can declare floats with any bit layout.
ElementType number_type(hid_t type) {
  struct Known {
    hid_t little;
    hid_t big;
    ElementClass element;
    const char* name;
  };
  static const Id half_little = half_type(H5T_ORDER_LE);
  static const Id half_big = half_type(H5T_ORDER_BE);
  const std::array<Known, 11> known{{
      {half_little.get(), half_big.get(), ElementClass::real, "float16"},
      {H5T_IEEE_F32LE, H5T_IEEE_F32BE, ElementClass::real, "float32"},
      {H5T_IEEE_F64LE, H5T_IEEE_F64BE, ElementClass::real, "float64"},
      {H5T_STD_I8LE, H5T_STD_I8BE, ElementClass::integer, "int8"},
      {H5T_STD_I16LE, H5T_STD_I16BE, ElementClass::integer, "int16"},
      {H5T_STD_I32LE, H5T_STD_I32BE, ElementClass::integer, "int32"},
      {H5T_STD_I64LE, H5T_STD_I64BE, ElementClass::integer, "int64"},
      {H5T_STD_U8LE, H5T_STD_U8BE, ElementClass::integer, "uint8"},
      {H5T_STD_U16LE, H5T_STD_U16BE, ElementClass::integer, "uint16"},
      {H5T_STD_U32LE, H5T_STD_U32BE, ElementClass::integer, "uint32"},
      {H5T_STD_U64LE, H5T_STD_U64BE, ElementClass::integer, "uint64"},
  }};
  for (const Known& k : known)
    if (H5Tequal(type, k.little) > 0 || H5Tequal(type, k.big) > 0) return {k.element, k.name};
  return {};
}

ElementType element_type(hid_t type) {
  switch (H5Tget_class(type)) {
    case H5T_INTEGER:
    case H5T_FLOAT:
      return number_type(type);
    case H5T_STRING:
      return {ElementClass::text, "text"};
    case H5T_COMPOUND:
      return {ElementClass::compound, "compound"};
    default:
      return {};
  }
}

/// Elements of a shape, or −1 if they can't be counted in 63 bits.
int64_t count_elements(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (int64_t extent : shape)
    if (__builtin_mul_overflow(count, extent, &count)) return -1;
  return count;
}

/// The text in a fixed-length field: up to the first NUL, or without the trailing blanks of Fortran's
/// padding.
std::string field_text(const char* data, size_t size, H5T_str_t padding) {
  std::string text(data, strnlen(data, size));
  if (padding == H5T_STR_SPACEPAD) text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

std::string parent_of(const std::string& object) {
  const size_t slash = object.rfind('/');
  return slash == std::string::npos ? "" : object.substr(0, slash);
}

}  // namespace

// ------------------------------------------------------------------------------------------- small types

int64_t DatasetInfo::size() const {
  return count_elements(shape);
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (int64_t extent : shape) text += (text.empty() ? "" : ", ") + std::to_string(extent);
  return "(" + text + (shape.size() == 1 ? ",)" : ")");
}

int64_t TableColumn::rows() const {
  return std::visit([](const auto& v) { return static_cast<int64_t>(v.size()); }, values);
}

const TableColumn* Table::find(const std::string& name) const {
  for (const TableColumn& column : columns)
    if (column.name == name) return &column;
  return nullptr;
}

std::string hdf5_version() {
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  H5get_libversion(&major, &minor, &release);
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release);
}

// ------------------------------------------------------------------------------------------- plumbing

struct Hdf5File::Impl {
  std::string path;
  bool writing = false;
  Id file;

  [[noreturn]] void fail(const std::string& object, const std::string& what) const {
    throw Error(writing ? Blame::environment : Blame::input, "'" + path + "': '" + object + "' " + what);
  }
  /// Passes a result of the library through, or fails with its message.
  template <class Result>
  Result need(Result result, const std::string& object, const char* what) const {
    if (result < 0) fail(object, what + library_message());
    return result;
  }
  Id need_id(hid_t id, Id::Closer closer, const std::string& object, const char* what) const {
    return {need(id, object, what), closer};
  }

  [[nodiscard]] bool link_exists(const std::string& object) const;
  [[nodiscard]] Id open_object(const std::string& object) const;
  [[nodiscard]] Id open_dataset(const std::string& dataset) const;
  [[nodiscard]] std::vector<int64_t> shape_of(hid_t space, const std::string& object) const;
  [[nodiscard]] DatasetInfo info_of(hid_t dataset, const std::string& name) const;
  void check_storage(hid_t dataset, const DatasetInfo& info, const std::string& name) const;
  void check_numeric(const DatasetInfo& info, const std::string& name, bool integers_only) const;

  template <class Read>
  std::string read_string(hid_t type, hid_t space, const std::string& name, const Read& read) const;
  [[nodiscard]] bool read_attribute(hid_t attribute, const std::string& name, AttributeValue& value) const;
  [[nodiscard]] AttributeValue attribute_value(const std::string& object, const std::string& name) const;

  [[nodiscard]] Id simple_space(const std::vector<int64_t>& shape, const std::string& name) const;
  [[nodiscard]] Id create_dataset(const std::string& name, hid_t type, hid_t space, hid_t properties) const;
  void write(const std::string& name, const std::vector<int64_t>& shape, hid_t file_type, hid_t memory_type,
             const void* values) const;
};

bool Hdf5File::Impl::link_exists(const std::string& object) const {
  if (object == "/") return true;
  if (object.empty()) return false;
  const std::string parent = parent_of(object);
  if (!parent.empty() && !link_exists(parent)) return false;
  const Id access = inside_file(H5Pcreate(H5P_LINK_ACCESS));
  return H5Lexists(file.get(), object.c_str(), access.get()) > 0 &&
         H5Oexists_by_name(file.get(), object.c_str(), access.get()) > 0;
}

Id Hdf5File::Impl::open_object(const std::string& object) const {
  if (!link_exists(object)) fail(object, "is missing");
  const Id access = inside_file(H5Pcreate(H5P_LINK_ACCESS));
  return need_id(H5Oopen(file.get(), object.c_str(), access.get()), H5Oclose, object, "can't be opened");
}

Id Hdf5File::Impl::open_dataset(const std::string& dataset) const {
  Id id = open_object(dataset);
  if (H5Iget_type(id.get()) != H5I_DATASET) fail(dataset, "must be a dataset, but is a group or a type");
  return id;
}

std::vector<int64_t> Hdf5File::Impl::shape_of(hid_t space, const std::string& object) const {
  const H5S_class_t kind = H5Sget_simple_extent_type(space);
  if (kind != H5S_SIMPLE && kind != H5S_SCALAR) fail(object, "has no elements (an HDF5 null dataspace)");
  const int rank = need(H5Sget_simple_extent_ndims(space), object, "has an unreadable shape");
  if (rank > kMaxRank) fail(object, "has " + std::to_string(rank) + " dimensions, more than HDF5 allows");
  std::array<hsize_t, kMaxRank> extents{};
  need(H5Sget_simple_extent_dims(space, extents.data(), nullptr), object, "has an unreadable shape");
  std::vector<int64_t> shape(extents.begin(), extents.begin() + rank);
  for (int64_t extent : shape)
    if (extent < 0) fail(object, "has a dimension beyond 2^63");
  if (count_elements(shape) < 0)
    fail(object, "has shape " + shape_text(shape) + ", more elements than can be counted in 63 bits");
  return shape;
}

DatasetInfo Hdf5File::Impl::info_of(hid_t dataset, const std::string& name) const {
  const Id type = need_id(H5Dget_type(dataset), H5Tclose, name, "has an unreadable type");
  const Id space = need_id(H5Dget_space(dataset), H5Sclose, name, "has an unreadable shape");
  const ElementType element = element_type(type.get());
  return {shape_of(space.get(), name), element.element, static_cast<int64_t>(H5Tget_size(type.get())),
          element.name};
}

/// Refuses storage that lies outside the file, and sizes that the stored bytes cannot account for, before any
/// memory is taken for them.
void Hdf5File::Impl::check_storage(hid_t dataset, const DatasetInfo& info, const std::string& name) const {
  int64_t bytes = 0;
  if (__builtin_mul_overflow(info.size(), info.element_bytes, &bytes))
    fail(name, "has shape " + shape_text(info.shape) + ", more bytes than can be counted in 63 bits");
  const Id properties =
      need_id(H5Dget_create_plist(dataset), H5Pclose, name, "has unreadable creation properties");
  const H5D_layout_t layout = H5Pget_layout(properties.get());
  if (layout == H5D_VIRTUAL || H5Pget_external_count(properties.get()) != 0)
    fail(name, "keeps its values in other files (external or virtual storage), which is not accepted");
  if (layout == H5D_CHUNKED) {
    std::array<hsize_t, kMaxRank> extents{};
    const int rank = H5Pget_chunk(properties.get(), kMaxRank, extents.data());
    double chunk_bytes = static_cast<double>(info.element_bytes);
    for (int i = 0; i < rank; ++i) chunk_bytes *= static_cast<double>(extents[static_cast<size_t>(i)]);
    if (chunk_bytes > static_cast<double>(std::max(bytes, kLargeChunk)))
      fail(name, "is stored in chunks far larger than itself");
  }
  const auto stored = static_cast<double>(H5Dget_storage_size(dataset));
  if (bytes > kUnbackedAllowed && stored * kMaxCompression < static_cast<double>(bytes))
    fail(name, "declares shape " + shape_text(info.shape) + " (" + std::to_string(bytes) +
                   " bytes), but its values were never written");
}

void Hdf5File::Impl::check_numeric(const DatasetInfo& info, const std::string& name,
                                   bool integers_only) const {
  if (info.element == ElementClass::integer || (info.element == ElementClass::real && !integers_only)) return;
  fail(name, std::string("must hold ") +
                 (integers_only ? "integers" : "float16, float32, float64 or integers") + ", but holds " +
                 (info.element_name == "other" ? "elements of another type" : info.element_name));
}

// ------------------------------------------------------------------------------------------- open, create,
// close

Hdf5File::Hdf5File(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Hdf5File::Hdf5File(Hdf5File&&) noexcept = default;
Hdf5File& Hdf5File::operator=(Hdf5File&&) noexcept = default;
Hdf5File::~Hdf5File() = default;

const std::string& Hdf5File::path() const {
  return impl_->path;
}

namespace {

Id access_properties() {
  Id properties(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_fclose_degree(properties.get(), H5F_CLOSE_STRONG);
  return properties;
}

Id memory_properties() {
  Id properties = access_properties();
  H5Pset_fapl_core(properties.get(), kMiB, 0);
  return properties;
}

void check_readable(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    const bool missing = !error || error == std::errc::no_such_file_or_directory;
    fail_input("'" + path + "' " +
               (missing ? "does not exist" : "can't be opened for reading: " + error.message()));
  }
  if (std::filesystem::is_directory(status)) fail_input("'" + path + "' is a folder, not an HDF5 file");
  if (!std::filesystem::is_regular_file(status))
    fail_input("'" + path + "' is not a regular file, so it can't be an HDF5 file");
  if (::access(path.c_str(), R_OK) != 0)
    fail_input("'" + path + "' can't be opened for reading: " + std::strerror(errno));
}

void check_writable(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor < 0) fail_environment("'" + path + "' can't be written: " + std::strerror(errno));
  ::close(descriptor);
}

}  // namespace

Hdf5File Hdf5File::open(const std::string& path) {
  initialise_library();
  check_readable(path);
  if (H5Fis_hdf5(path.c_str()) <= 0) fail_input("'" + path + "' is not an HDF5 file");
  const Id access = access_properties();
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->file = Id(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
  if (!impl->file.valid())
    fail_input("'" + path + "' is damaged or in use by a writer: it can't be opened as an HDF5 file" +
               library_message());
  return Hdf5File(std::move(impl));
}

Hdf5File Hdf5File::open_image(const std::string& bytes, const std::string& name) {
  initialise_library();
  const Id access = memory_properties();
  std::string copy = bytes;  // the library asks for a pointer to non-const, and copies from it
  auto impl = std::make_unique<Impl>();
  impl->path = name;
  if (!bytes.empty() && H5Pset_file_image(access.get(), copy.data(), copy.size()) >= 0)
    impl->file = Id(H5Fopen(name.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
  if (!impl->file.valid())
    fail_input("'" + name + "' is not an HDF5 file, or is damaged" + library_message());
  return Hdf5File(std::move(impl));
}

Hdf5File Hdf5File::create(const std::string& path) {
  initialise_library();
  check_writable(path);
  const Id access = access_properties();
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->writing = true;
  impl->file = Id(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), H5Fclose);
  if (!impl->file.valid()) fail_environment("'" + path + "' can't be created" + library_message());
  return Hdf5File(std::move(impl));
}

Hdf5File Hdf5File::create_in_memory(const std::string& name) {
  initialise_library();
  const Id access = memory_properties();
  auto impl = std::make_unique<Impl>();
  impl->path = name;
  impl->writing = true;
  impl->file = Id(H5Fcreate(name.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), H5Fclose);
  if (!impl->file.valid())
    fail_environment("no HDF5 file could be made in memory for '" + name + "'" + library_message());
  return Hdf5File(std::move(impl));
}

void Hdf5File::close() {
  if (!impl_->file.valid()) return;
  if (impl_->writing && H5Fflush(impl_->file.get(), H5F_SCOPE_GLOBAL) < 0) {
    const std::string message = library_message();
    impl_->file.reset();
    fail_environment("'" + impl_->path + "' could not be written in full" + message);
  }
  if (!impl_->file.reset() && impl_->writing)
    fail_environment("'" + impl_->path + "' could not be closed" + library_message());
}

std::string Hdf5File::image() {
  const hid_t file = impl_->file.get();
  impl_->need(H5Fflush(file, H5F_SCOPE_GLOBAL), "/", "could not be flushed");
  const ssize_t size = impl_->need(H5Fget_file_image(file, nullptr, 0), "/", "has no readable image");
  require_memory(static_cast<double>(size), "the image of an HDF5 file");
  std::string bytes(static_cast<size_t>(size), '\0');
  impl_->need(H5Fget_file_image(file, bytes.data(), bytes.size()), "/", "has no readable image");
  return bytes;
}

// ------------------------------------------------------------------------------------------- reading

bool Hdf5File::exists(const std::string& object) const {
  return impl_->link_exists(object);
}

namespace {

herr_t collect_link(hid_t, const char* name, const H5L_info_t*, void* names) {
  static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  return 0;
}

herr_t collect_attribute(hid_t, const char* name, const H5A_info_t*, void* names) {
  static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  return 0;
}

}  // namespace

std::vector<std::string> Hdf5File::children(const std::string& group) const {
  const Id id = impl_->open_object(group);
  if (H5Iget_type(id.get()) != H5I_GROUP) impl_->fail(group, "must be a group, but is a dataset or a type");
  std::vector<std::string> names;
  impl_->need(H5Literate(id.get(), H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, collect_link, &names), group,
              "can't be listed");
  std::sort(names.begin(), names.end());
  return names;
}

DatasetInfo Hdf5File::info(const std::string& dataset) const {
  return impl_->info_of(impl_->open_dataset(dataset).get(), dataset);
}

namespace {

/// The rule for tensors, in words, or nothing if the shape keeps it.
std::string tensor_problem(const std::vector<int64_t>& shape) {
  if (shape.size() != 4)
    return "must have 4 dimensions (batch, heads, rows, dim), but has shape " + shape_text(shape);
  if (std::find(shape.begin(), shape.end(), 0) != shape.end())
    return "must have no dimension of size 0, but has shape " + shape_text(shape);
  return {};
}

}  // namespace

TensorShape Hdf5File::read_shape4(const std::string& dataset) const {
  const Id id = impl_->open_dataset(dataset);
  const DatasetInfo info = impl_->info_of(id.get(), dataset);
  impl_->check_numeric(info, dataset, false);
  if (const std::string problem = tensor_problem(info.shape); !problem.empty()) impl_->fail(dataset, problem);
  impl_->check_storage(id.get(), info, dataset);
  return {info.shape[0], info.shape[1], info.shape[2], info.shape[3]};
}

Tensor<float> Hdf5File::read_tensor(const std::string& dataset) const {
  return read_tensor(dataset, 0, read_shape4(dataset).rows);
}

Tensor<float> Hdf5File::read_tensor(const std::string& dataset, int64_t begin, int64_t end) const {
  TensorShape shape = read_shape4(dataset);
  if (begin < 0 || begin >= end || end > shape.rows)
    impl_->fail(dataset, "has " + std::to_string(shape.rows) + " rows, so rows [" + std::to_string(begin) +
                             ", " + std::to_string(end) + ") can't be taken from it");
  shape.rows = end - begin;
  require_memory(static_cast<double>(shape.size()) * sizeof(float), ("the tensor '" + dataset + "'").c_str());
  Tensor<float> tensor(shape);

  const Id id = impl_->open_dataset(dataset);
  const Id file_space = impl_->need_id(H5Dget_space(id.get()), H5Sclose, dataset, "has an unreadable shape");
  const std::array<hsize_t, 4> start{0, 0, static_cast<hsize_t>(begin), 0};
  const std::array<hsize_t, 4> count{static_cast<hsize_t>(shape.batch), static_cast<hsize_t>(shape.heads),
                                     static_cast<hsize_t>(shape.rows), static_cast<hsize_t>(shape.dim)};
  impl_->need(
      H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr),
      dataset, "has rows that can't be selected");
  const Id memory_space(H5Screate_simple(4, count.data(), nullptr), H5Sclose);
  impl_->need(
      H5Dread(id.get(), H5T_NATIVE_FLOAT, memory_space.get(), file_space.get(), H5P_DEFAULT, tensor.data()),
      dataset, "can't be read");
  return tensor;
}

DoubleArray Hdf5File::read_doubles(const std::string& dataset) const {
  const Id id = impl_->open_dataset(dataset);
  const DatasetInfo info = impl_->info_of(id.get(), dataset);
  impl_->check_numeric(info, dataset, false);
  impl_->check_storage(id.get(), info, dataset);
  require_memory(static_cast<double>(info.size()) * sizeof(double),
                 ("the dataset '" + dataset + "'").c_str());
  DoubleArray array{info.shape, Buffer<double>(info.size())};
  if (info.size() > 0)
    impl_->need(H5Dread(id.get(), H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, array.values.data()),
                dataset, "can't be read");
  return array;
}

IntegerArray Hdf5File::read_integers(const std::string& dataset) const {
  const Id id = impl_->open_dataset(dataset);
  const DatasetInfo info = impl_->info_of(id.get(), dataset);
  impl_->check_numeric(info, dataset, true);
  impl_->check_storage(id.get(), info, dataset);
  require_memory(static_cast<double>(info.size()) * sizeof(int64_t),
                 ("the dataset '" + dataset + "'").c_str());
  IntegerArray array{info.shape, std::vector<int64_t>(static_cast<size_t>(info.size()))};
  if (!array.values.empty())
    impl_->need(H5Dread(id.get(), H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, array.values.data()),
                dataset, "can't be read");
  // The conversion clips what is beyond int64 to its largest value.
  const auto& v = array.values;
  if (info.element_name == "uint64" &&
      std::find(v.begin(), v.end(), std::numeric_limits<int64_t>::max()) != v.end())
    impl_->fail(dataset, "holds a value of 2^63 − 1 or more, which is not accepted");
  return array;
}

/// One string, of fixed or variable length; `read(memory_type, buffer)` fetches it.
template <class Read>
std::string Hdf5File::Impl::read_string(hid_t type, hid_t space, const std::string& name,
                                        const Read& read) const {
  if (H5Tis_variable_str(type) > 0) {
    char* text = nullptr;
    need(read(type, static_cast<void*>(&text)), name, "can't be read");
    std::string result = text == nullptr ? "" : text;
    H5Dvlen_reclaim(type, space, H5P_DEFAULT, static_cast<void*>(&text));
    return result;
  }
  const size_t size = H5Tget_size(type);
  require_memory(static_cast<double>(size), "a text in an HDF5 file");
  std::string bytes(size, '\0');
  need(read(type, static_cast<void*>(bytes.data())), name, "can't be read");
  return field_text(bytes.data(), bytes.size(), H5Tget_strpad(type));
}

std::string Hdf5File::read_text(const std::string& dataset) const {
  const Id id = impl_->open_dataset(dataset);
  const DatasetInfo info = impl_->info_of(id.get(), dataset);
  if (info.element != ElementClass::text || info.size() != 1)
    impl_->fail(dataset,
                "must hold one text, but holds " + info.element_name + " of shape " + shape_text(info.shape));
  impl_->check_storage(id.get(), info, dataset);
  const Id type = impl_->need_id(H5Dget_type(id.get()), H5Tclose, dataset, "has an unreadable type");
  const Id space = impl_->need_id(H5Dget_space(id.get()), H5Sclose, dataset, "has an unreadable shape");
  return impl_->read_string(type.get(), space.get(), dataset, [&](hid_t memory_type, void* buffer) {
    return H5Dread(id.get(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer);
  });
}

// ------------------------------------------------------------------------------------------- tables

namespace {

/// One member of a packed row in memory.
struct Field {
  std::string name;
  ElementClass element = ElementClass::other;
  size_t offset = 0;
  size_t size = 8;
  H5T_str_t padding = H5T_STR_NULLPAD;
  Id type;
};

Id fixed_text_type(size_t size) {
  Id type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), size);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  H5Tset_strpad(type.get(), H5T_STR_NULLPAD);
  return type;
}

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

TableColumn::Values unpack(const Buffer<char>& rows, size_t row_bytes, const Field& field) {
  switch (field.element) {
    case ElementClass::integer:
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
  if (const auto* reals = std::get_if<std::vector<double>>(&column.values)) copy_numbers(*reals);
}

/// The members of a compound type as fields, in the file's order. Returns what is wrong, or nothing.
std::string read_fields(hid_t type, std::vector<Field>& fields) {
  const int members = H5Tget_nmembers(type);
  if (members < 1 || members > kMaxTableColumns)
    return "has " + std::to_string(members) + " columns, but 1 to " + std::to_string(kMaxTableColumns) +
           " are accepted";
  for (int i = 0; i < members; ++i) {
    char* name = H5Tget_member_name(type, static_cast<unsigned>(i));
    const Id member(H5Tget_member_type(type, static_cast<unsigned>(i)), H5Tclose);
    Field field;
    field.name = name == nullptr ? "" : name;
    H5free_memory(name);
    if (!member.valid()) return "has an unreadable column type";
    field.element = element_type(member.get()).element;
    if (field.element == ElementClass::integer) {
      field.type = Id(H5Tcopy(H5T_NATIVE_INT64), H5Tclose);
    } else if (field.element == ElementClass::real) {
      field.type = Id(H5Tcopy(H5T_NATIVE_DOUBLE), H5Tclose);
    } else if (field.element == ElementClass::text && H5Tis_variable_str(member.get()) == 0) {
      field.size = H5Tget_size(member.get());
      if (field.size > static_cast<size_t>(kMaxTableText)) return "has a text column wider than 1 MiB";
      field.padding = H5Tget_strpad(member.get());
      field.type = Id(H5Tcopy(member.get()), H5Tclose);
    } else {
      return "has a column '" + field.name + "' that holds neither numbers nor fixed-length text";
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
    impl_->fail(dataset, "must be a one-dimensional table with named columns, but holds " +
                             info.element_name + " of shape " + shape_text(info.shape));
  impl_->check_storage(id.get(), info, dataset);
  const Id type = impl_->need_id(H5Dget_type(id.get()), H5Tclose, dataset, "has an unreadable type");
  std::vector<Field> fields;
  if (const std::string problem = read_fields(type.get(), fields); !problem.empty())
    impl_->fail(dataset, problem);
  const size_t row_bytes = pack(fields);
  // Twice: packed rows, then columns.
  require_memory(2.0 * static_cast<double>(row_bytes) * static_cast<double>(info.size()),
                 ("the table '" + dataset + "'").c_str());
  const Id memory_type = compound_of(fields, row_bytes);
  if (!memory_type.valid()) impl_->fail(dataset, "has columns that can't be read" + library_message());
  Buffer<char> rows(info.size() * static_cast<int64_t>(row_bytes), '\0');
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
      throw std::logic_error("table '" + dataset + "': column '" + column.name + "' has " +
                             std::to_string(column.rows()) + " rows, but the first has " +
                             std::to_string(table.rows()));
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

// ------------------------------------------------------------------------------------------- attributes

/// False where the attribute is of a kind that AttributeValue does not hold.
bool Hdf5File::Impl::read_attribute(hid_t attribute, const std::string& name, AttributeValue& value) const {
  const Id type = need_id(H5Aget_type(attribute), H5Tclose, name, "has an unreadable type");
  const Id space = need_id(H5Aget_space(attribute), H5Sclose, name, "has an unreadable shape");
  if (H5Sget_simple_extent_npoints(space.get()) != 1) return false;
  const H5T_class_t kind = H5Tget_class(type.get());
  if (kind == H5T_STRING) {
    value = read_string(type.get(), space.get(), name, [&](hid_t memory_type, void* buffer) {
      return H5Aread(attribute, memory_type, buffer);
    });
    return true;
  }
  if (kind == H5T_ENUM && H5Tget_size(type.get()) == 1) {
    int8_t truth = 0;
    need(H5Aread(attribute, type.get(), &truth), name, "can't be read");
    value = truth != 0;
    return true;
  }
  const ElementClass element = element_type(type.get()).element;
  if (element == ElementClass::integer) {
    int64_t number = 0;
    need(H5Aread(attribute, H5T_NATIVE_INT64, &number), name, "can't be read");
    value = number;
    return true;
  }
  if (element != ElementClass::real) return false;
  double number = 0;
  need(H5Aread(attribute, H5T_NATIVE_DOUBLE, &number), name, "can't be read");
  value = number;
  return true;
}

AttributeMap Hdf5File::attributes(const std::string& object) const {
  const Id id = impl_->open_object(object);
  std::vector<std::string> names;
  impl_->need(H5Aiterate2(id.get(), H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, collect_attribute, &names),
              object, "has attributes that can't be listed");
  AttributeMap values;
  for (const std::string& name : names) {
    const std::string label = std::string(object).append("@").append(name);
    const Id attribute =
        impl_->need_id(H5Aopen(id.get(), name.c_str(), H5P_DEFAULT), H5Aclose, label, "can't be opened");
    AttributeValue value;
    if (impl_->read_attribute(attribute.get(), label, value)) values[name] = std::move(value);
  }
  return values;
}

bool Hdf5File::has_attribute(const std::string& object, const std::string& name) const {
  return H5Aexists(impl_->open_object(object).get(), name.c_str()) > 0;
}

AttributeValue Hdf5File::Impl::attribute_value(const std::string& object, const std::string& name) const {
  const Id id = open_object(object);
  if (H5Aexists(id.get(), name.c_str()) <= 0) fail(object, "has no attribute '" + name + "'");
  const std::string label = object + "@" + name;
  const Id attribute =
      need_id(H5Aopen(id.get(), name.c_str(), H5P_DEFAULT), H5Aclose, label, "can't be opened");
  AttributeValue value;
  if (!read_attribute(attribute.get(), label, value))
    fail(object, "has an attribute '" + name + "' that is not one number, truth value or text");
  return value;
}

int64_t Hdf5File::integer_attribute(const std::string& object, const std::string& name) const {
  const AttributeValue value = impl_->attribute_value(object, name);
  if (const auto* integer = std::get_if<int64_t>(&value)) return *integer;
  impl_->fail(object, "has an attribute '" + name + "' that must be an integer, but is not");
}

double Hdf5File::number_attribute(const std::string& object, const std::string& name) const {
  const AttributeValue value = impl_->attribute_value(object, name);
  if (const auto* integer = std::get_if<int64_t>(&value)) return static_cast<double>(*integer);
  if (const auto* number = std::get_if<double>(&value)) return *number;
  impl_->fail(object, "has an attribute '" + name + "' that must be a number, but is not");
}

bool Hdf5File::boolean_attribute(const std::string& object, const std::string& name) const {
  const AttributeValue value = impl_->attribute_value(object, name);
  if (const auto* truth = std::get_if<bool>(&value)) return *truth;
  if (const auto* integer = std::get_if<int64_t>(&value); integer && (*integer == 0 || *integer == 1))
    return *integer == 1;
  impl_->fail(object, "has an attribute '" + name + "' that must be true or false, but is not");
}

std::string Hdf5File::text_attribute(const std::string& object, const std::string& name) const {
  AttributeValue value = impl_->attribute_value(object, name);
  if (auto* text = std::get_if<std::string>(&value)) return std::move(*text);
  impl_->fail(object, "has an attribute '" + name + "' that must be a text, but is not");
}

// ------------------------------------------------------------------------------------------- writing

Id Hdf5File::Impl::simple_space(const std::vector<int64_t>& shape, const std::string& name) const {
  const std::vector<hsize_t> extents(shape.begin(), shape.end());
  const hid_t space = shape.empty()
                          ? H5Screate(H5S_SCALAR)
                          : H5Screate_simple(static_cast<int>(shape.size()), extents.data(), nullptr);
  return need_id(space, H5Sclose, name, "can't have this shape");
}

Id Hdf5File::Impl::create_dataset(const std::string& name, hid_t type, hid_t space, hid_t properties) const {
  const Id links(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
  H5Pset_create_intermediate_group(links.get(), 1);
  H5Pset_obj_track_times(properties, 0);  // equal contents give equal bytes
  return need_id(H5Dcreate2(file.get(), name.c_str(), type, space, links.get(), properties, H5P_DEFAULT),
                 H5Dclose, name, "could not be created");
}

void Hdf5File::Impl::write(const std::string& name, const std::vector<int64_t>& shape, hid_t file_type,
                           hid_t memory_type, const void* values) const {
  const Id space = simple_space(shape, name);
  const Id properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  const Id id = create_dataset(name, file_type, space.get(), properties.get());
  if (count_elements(shape) > 0)
    need(H5Dwrite(id.get(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), name,
         "could not be written");
}

void Hdf5File::make_group(const std::string& group) {
  if (impl_->link_exists(group)) return;
  const Id links(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
  H5Pset_create_intermediate_group(links.get(), 1);
  const Id id =
      impl_->need_id(H5Gcreate2(impl_->file.get(), group.c_str(), links.get(), H5P_DEFAULT, H5P_DEFAULT),
                     H5Gclose, group, "could not be created");
}

void Hdf5File::write_tensor(const std::string& dataset, TensorView<const float> tensor) {
  const TensorShape& s = tensor.shape;
  write_floats(dataset, {s.batch, s.heads, s.rows, s.dim}, tensor.data);
}

void Hdf5File::write_floats(const std::string& dataset, const std::vector<int64_t>& shape,
                            const float* values) {
  impl_->write(dataset, shape, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, values);
}

void Hdf5File::write_doubles(const std::string& dataset, const std::vector<int64_t>& shape,
                             const double* values) {
  impl_->write(dataset, shape, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, values);
}

void Hdf5File::write_integers(const std::string& dataset, const std::vector<int64_t>& shape,
                              const int64_t* values) {
  impl_->write(dataset, shape, H5T_STD_I64LE, H5T_NATIVE_INT64, values);
}

void Hdf5File::write_text(const std::string& dataset, const std::string& text) {
  const Id type = fixed_text_type(std::max<size_t>(1, text.size()));
  const std::string bytes = text.empty() ? std::string(1, '\0') : text;
  impl_->write(dataset, {}, type.get(), type.get(), bytes.data());
}

void Hdf5File::write_attribute(const std::string& object, const std::string& name,
                               const AttributeValue& value) {
  const Id id = impl_->open_object(object);
  Id type;
  std::string text;
  const void* data = nullptr;
  int8_t truth = 0;
  if (const auto* integer = std::get_if<int64_t>(&value)) {
    type = Id(H5Tcopy(H5T_NATIVE_INT64), H5Tclose);
    data = integer;
  } else if (const auto* number = std::get_if<double>(&value)) {
    type = Id(H5Tcopy(H5T_NATIVE_DOUBLE), H5Tclose);
    data = number;
  } else if (const auto* boolean = std::get_if<bool>(&value)) {
    const int8_t no = 0;  // h5py's form of a truth value
    const int8_t yes = 1;
    type = Id(H5Tenum_create(H5T_NATIVE_INT8), H5Tclose);
    H5Tenum_insert(type.get(), "FALSE", &no);
    H5Tenum_insert(type.get(), "TRUE", &yes);
    truth = *boolean ? 1 : 0;
    data = &truth;
  } else {
    text = cut_utf8(std::get<std::string>(value), kMaxAttributeText);
    type = fixed_text_type(std::max<size_t>(1, text.size()));
    data = text.c_str();
  }
  if (H5Aexists(id.get(), name.c_str()) > 0)
    impl_->need(H5Adelete(id.get(), name.c_str()), object, "has an attribute that could not be replaced");
  const Id space(H5Screate(H5S_SCALAR), H5Sclose);
  const Id attribute =
      impl_->need_id(H5Acreate2(id.get(), name.c_str(), type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT),
                     H5Aclose, object, "has an attribute that could not be created");
  impl_->need(H5Awrite(attribute.get(), type.get(), data), object,
              "has an attribute that could not be written");
}

}  // namespace hyperattn
