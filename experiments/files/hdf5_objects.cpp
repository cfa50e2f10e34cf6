// Objects of an HDF5 file: links, datasets and what they say about themselves, checked before it is believed.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>

#include "core/checked.h"
#include "core/error.h"
#include "experiments/files/hdf5_internal.h"

namespace hyperattn {

using namespace hdf5;

namespace {

constexpr int64_t kMaxRank = 32;  // HDF5's own limit (H5S_MAX_RANK)
// A dataset beyond this size must be backed by stored bytes; deflate shrinks by at most 1032.
constexpr int64_t kUnbackedAllowed = 64 * kMiB;
constexpr int64_t kMaxCompression = 1100;
constexpr int64_t kLargeChunk = 256 * kMiB;

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

std::string parent_of(const std::string& object) {
  const size_t slash = object.rfind('/');
  return slash == std::string::npos ? "" : object.substr(0, slash);
}

/// "'lzf' (number 32000)". Filters are registered by number; not every writer stores the name.
std::string filter_text(H5Z_filter_t filter, const std::string& stored) {
  static const std::map<int, const char*> kNames = {
      {4, "szip"},    {32000, "lzf"},  {32001, "blosc"}, {32004, "lz4"},   {32008, "bitshuffle"},
      {32013, "zfp"}, {32015, "zstd"}, {32017, "sz"},    {32026, "blosc2"}};
  const auto known = kNames.find(filter);
  const std::string name = known != kNames.end() ? known->second : stored;
  return fmt::format("{}(number {})", name.empty() ? "" : "'" + name + "' ", filter);
}

herr_t collect_link(hid_t, const char* name, const H5L_info_t*, void* names) {
  static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  return 0;
}

}  // namespace

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
  if (rank > kMaxRank) fail(object, fmt::format("has {} dimensions, more than HDF5 allows", rank));
  std::array<hsize_t, kMaxRank> extents{};
  need(H5Sget_simple_extent_dims(space, extents.data(), nullptr), object, "has an unreadable shape");
  std::vector<int64_t> shape(extents.begin(), extents.begin() + rank);
  for (int64_t extent : shape)
    if (extent < 0) fail(object, "has a dimension beyond 2^63");
  if (count_elements(shape) < 0)
    fail(object,
         fmt::format("has shape {}, more elements than can be counted in 63 bits", shape_text(shape)));
  return shape;
}

/// Whether the dataset has the attribute dtype = "bfloat16".
bool Hdf5File::Impl::says_bfloat16(hid_t dataset) const {
  if (H5Aexists(dataset, "dtype") <= 0) return false;
  const Id attribute(H5Aopen(dataset, "dtype", H5P_DEFAULT), H5Aclose);
  AttributeValue value;
  const bool known = attribute.valid() && read_attribute(attribute.get(), "dtype", value);
  const auto* text = known ? std::get_if<std::string>(&value) : nullptr;
  return text != nullptr && *text == "bfloat16";
}

DatasetInfo Hdf5File::Impl::info_of(hid_t dataset, const std::string& name) const {
  const Id type = need_id(H5Dget_type(dataset), H5Tclose, name, "has an unreadable type");
  const Id space = need_id(H5Dget_space(dataset), H5Sclose, name, "has an unreadable shape");
  const ElementType element = element_type(type.get());
  DatasetInfo info{shape_of(space.get(), name), element.element,
                   static_cast<int64_t>(H5Tget_size(type.get())), element.name};
  if (H5Tget_class(type.get()) == H5T_OPAQUE) info.form = ElementForm::opaque_bits;
  if (element.name == "uint16" && says_bfloat16(dataset)) {
    info.element = ElementClass::real;
    info.element_name = "bfloat16";
    info.form = ElementForm::integer_bits;
  }
  return info;
}

/// Refuses storage that lies outside the file, and sizes that the stored bytes cannot account for, before any
/// memory is taken for them.
void Hdf5File::Impl::check_storage(hid_t dataset, const DatasetInfo& info, const std::string& name) const {
  const std::optional<int64_t> counted = checked_product({info.size(), info.element_bytes});
  if (!counted)
    fail(name,
         fmt::format("has shape {}, more bytes than can be counted in 63 bits", shape_text(info.shape)));
  const int64_t bytes = *counted;
  const Id properties =
      need_id(H5Dget_create_plist(dataset), H5Pclose, name, "has unreadable creation properties");
  const H5D_layout_t layout = H5Pget_layout(properties.get());
  if (layout == H5D_VIRTUAL || H5Pget_external_count(properties.get()) != 0)
    fail(name, "keeps its values in other files (external or virtual storage), which is not accepted");
  check_filters(properties.get(), name);
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
    fail(name, fmt::format("declares shape {} ({} bytes), but its values were never written",
                           shape_text(info.shape), bytes));
  check_written(dataset, properties.get(), info, name);
}

/// What the values went through must be undone by a filter that this library has.
void Hdf5File::Impl::check_filters(hid_t properties, const std::string& name) const {
  for (int i = 0; i < H5Pget_nfilters(properties); ++i) {
    std::array<char, 256> filter_name{};
    unsigned flags = 0;
    size_t values = 0;
    const H5Z_filter_t filter = H5Pget_filter2(properties, static_cast<unsigned>(i), &flags, &values, nullptr,
                                               filter_name.size() - 1, filter_name.data(), nullptr);
    if (filter < 0 || H5Zfilter_avail(filter) > 0) continue;
    fail(name, fmt::format("was written through the filter {}, which this program's HDF5 library does not "
                           "have; write it uncompressed, or with gzip",
                           filter_text(filter, filter_name.data())));
  }
}

/// Values that were never written read as zeros, which nobody meant. A fill value of the writer's own is
/// meant.
void Hdf5File::Impl::check_written(hid_t dataset, hid_t properties, const DatasetInfo& info,
                                   const std::string& name) const {
  H5D_fill_value_t fill = H5D_FILL_VALUE_DEFAULT;
  if (info.size() == 0 ||
      (H5Pfill_value_defined(properties, &fill) >= 0 && fill == H5D_FILL_VALUE_USER_DEFINED))
    return;
  if (H5Pget_layout(properties) == H5D_CONTIGUOUS && H5Dget_storage_size(dataset) == 0)
    fail(name, fmt::format("has shape {}, but its values were never written", shape_text(info.shape)));
  if (H5Pget_layout(properties) != H5D_CHUNKED) return;
  std::array<hsize_t, kMaxRank> extents{};
  const int rank = H5Pget_chunk(properties, kMaxRank, extents.data());
  double chunks = 1;  // of the whole shape; as double, which a hostile shape cannot overflow
  for (int i = 0; i < rank; ++i)
    chunks *= std::ceil(static_cast<double>(info.shape[static_cast<size_t>(i)]) /
                        static_cast<double>(extents[static_cast<size_t>(i)]));
  const Id space = need_id(H5Dget_space(dataset), H5Sclose, name, "has an unreadable shape");
  hsize_t written = 0;
  need(H5Dget_num_chunks(dataset, space.get(), &written), name, "has an unreadable list of chunks");
  if (static_cast<double>(written) < chunks)
    fail(name, fmt::format("has shape {}, but only {} of its {} chunks of values were written",
                           shape_text(info.shape), written, static_cast<int64_t>(chunks)));
}

void Hdf5File::Impl::check_numeric(const DatasetInfo& info, const std::string& name,
                                   bool integers_only) const {
  if (info.element == ElementClass::integer || (info.element == ElementClass::real && !integers_only)) return;
  fail(name, fmt::format("must hold {}, but holds {}",
                         integers_only ? "integers" : "float16, bfloat16, float32, float64 or integers",
                         info.element_name == "other" ? "elements of another type" : info.element_name));
}

bool Hdf5File::exists(const std::string& object) const {
  return impl_->link_exists(object);
}

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

}  // namespace hyperattn
