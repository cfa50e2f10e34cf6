// Attributes of the objects of an HDF5 file: scalar numbers, truth values and texts.
#include <fmt/core.h>

#include <algorithm>

#include "core/utf8.h"
#include "experiments/files/hdf5_internal.h"

namespace hyperattn {

using namespace hdf5;

namespace {

constexpr size_t kMaxAttributeText = 32000;

herr_t collect_attribute(hid_t, const char* name, const H5A_info_t*, void* names) {
  static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  return 0;
}

}  // namespace

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
  if (H5Aexists(id.get(), name.c_str()) <= 0) fail(object, fmt::format("has no attribute '{}'", name));
  const std::string label = object + "@" + name;
  const Id attribute =
      need_id(H5Aopen(id.get(), name.c_str(), H5P_DEFAULT), H5Aclose, label, "can't be opened");
  AttributeValue value;
  if (!read_attribute(attribute.get(), label, value))
    fail(object, fmt::format("has an attribute '{}' that is not one number, truth value or text", name));
  return value;
}

int64_t Hdf5File::integer_attribute(const std::string& object, const std::string& name) const {
  const AttributeValue value = impl_->attribute_value(object, name);
  if (const auto* integer = std::get_if<int64_t>(&value)) return *integer;
  impl_->fail(object, fmt::format("has an attribute '{}' that must be an integer, but is not", name));
}

double Hdf5File::number_attribute(const std::string& object, const std::string& name) const {
  const AttributeValue value = impl_->attribute_value(object, name);
  if (const auto* integer = std::get_if<int64_t>(&value)) return static_cast<double>(*integer);
  if (const auto* number = std::get_if<double>(&value)) return *number;
  impl_->fail(object, fmt::format("has an attribute '{}' that must be a number, but is not", name));
}

bool Hdf5File::boolean_attribute(const std::string& object, const std::string& name) const {
  const AttributeValue value = impl_->attribute_value(object, name);
  if (const auto* truth = std::get_if<bool>(&value)) return *truth;
  if (const auto* integer = std::get_if<int64_t>(&value); integer && (*integer == 0 || *integer == 1))
    return *integer == 1;
  impl_->fail(object, fmt::format("has an attribute '{}' that must be true or false, but is not", name));
}

std::string Hdf5File::text_attribute(const std::string& object, const std::string& name) const {
  AttributeValue value = impl_->attribute_value(object, name);
  if (auto* text = std::get_if<std::string>(&value)) return std::move(*text);
  impl_->fail(object, fmt::format("has an attribute '{}' that must be a text, but is not", name));
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
