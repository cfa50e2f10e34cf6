// The input source `file`: ranges of rows, every float type, and files that are wrong.
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <limits>

#include "core/error.h"
#include "experiments/files/hdf5_file.h"
#include "experiments/inputs/input_source.h"
#include "tests/scratch_folder.h"

namespace hyperattn {
namespace {

Tensor<float> counting(const TensorShape& shape, float start) {
  Tensor<float> tensor(shape);
  for (int64_t i = 0; i < shape.size(); ++i) tensor.data()[i] = start + static_cast<float>(i);
  return tensor;
}

void write_inputs(const std::string& path, const TensorShape& q, const TensorShape& k, const TensorShape& v) {
  Hdf5File file = Hdf5File::create(path);
  file.write_tensor("/inputs/q", counting(q, 0).view());
  file.write_tensor("/inputs/k", counting(k, 1000).view());
  file.write_tensor("/inputs/v", counting(v, 2000).view());
  file.close();
}

Parameters reading(const std::string& path) {
  Parameters parameters;
  parameters.set("path", path);
  return parameters;
}

/// What `make` throws, with the blame's number before it.
std::string refusal(const Parameters& parameters) {
  try {
    static_cast<void>(find_input_source("file")->make(parameters, 0, 0));
  } catch (const Error& error) {
    return std::to_string(error.exit_code()) + ": " + error.what();
  }
  return "accepted";
}

TEST_CASE("file inputs are the rows asked for") {
  const testing::ScratchFolder folder;
  const std::string path = folder / "inputs.h5";
  write_inputs(path, {2, 1, 10, 3}, {2, 1, 12, 3}, {2, 1, 12, 2});
  const InputSource& source = *find_input_source("file");
  Parameters parameters = reading(path);
  SECTION("all of them") {
    CHECK(source.shapes(parameters).query == TensorShape{2, 1, 10, 3});
    const AttentionInputs inputs = source.make(parameters, 0, 0);
    CHECK(inputs.query.data()[59] == 59);
    CHECK(inputs.value.data()[47] == 2047);
  }
  SECTION("a range of each, half-open") {
    parameters.set("query_rows", IntegerList{4, 10});
    parameters.set("key_rows", IntegerList{0, 4});
    CHECK(source.shapes(parameters).query == TensorShape{2, 1, 6, 3});
    CHECK(source.shapes(parameters).value == TensorShape{2, 1, 4, 2});
    const AttentionInputs inputs = source.make(parameters, 0, 0);
    CHECK(inputs.query.shape() == TensorShape{2, 1, 6, 3});
    CHECK(inputs.query.matrix(1).row(0)[0] == 30 + 12);
    CHECK(inputs.key.matrix(1).row(3)[2] == 1036 + 11);
    CHECK(inputs.value.matrix(1).row(0)[1] == 2024 + 1);
  }
  SECTION("the first rows") {
    parameters.set("seq_len", int64_t{5});
    parameters.set("key_rows", IntegerList{6, 12});
    const AttentionInputs inputs = source.make(parameters, 0, 0);
    CHECK(inputs.query.shape() == TensorShape{2, 1, 5, 3});
    CHECK(inputs.key.shape() == TensorShape{2, 1, 5, 3});
    CHECK(inputs.key.matrix(0).row(0)[0] == 1018);
  }
}

TEST_CASE("ranges that a file does not have are refused") {
  const testing::ScratchFolder folder;
  const std::string path = folder / "inputs.h5";
  write_inputs(path, {1, 1, 10, 3}, {1, 1, 12, 3}, {1, 1, 12, 3});
  Parameters parameters = reading(path);
  SECTION("beyond the end") {
    parameters.set("key_rows", IntegerList{0, 13});
    CHECK_THAT(refusal(parameters), Catch::StartsWith("2: key_rows is [0, 13], but /inputs/k of '") &&
                                        Catch::EndsWith("has 12 rows"));
  }
  SECTION("empty") {
    parameters.set("query_rows", IntegerList{3, 3});
    CHECK_THAT(refusal(parameters), Catch::Contains("query_rows must be [begin, end] with begin < end"));
  }
  SECTION("not a pair") {
    parameters.set("query_rows", IntegerList{0, 3, 4});
    CHECK_THAT(refusal(parameters), Catch::Contains("but is [0, 3, 4]"));
  }
  SECTION("too long") {
    parameters.set("seq_len", int64_t{11});
    CHECK_THAT(refusal(parameters), Catch::StartsWith("2: seq_len is 11, but /inputs/q of '"));
  }
}

TEST_CASE("files with shapes that do not fit are refused from their headers") {
  const testing::ScratchFolder folder;
  const std::string path = folder / "inputs.h5";
  SECTION("head dimensions") {
    write_inputs(path, {1, 1, 10, 3}, {1, 1, 12, 4}, {1, 1, 12, 4});
    CHECK_THAT(refusal(reading(path)),
               Catch::StartsWith("3: ") && Catch::Contains("same head dimension, but q is (1, 1, 10, 3)"));
  }
  SECTION("keys and values") {
    write_inputs(path, {1, 1, 10, 3}, {1, 1, 12, 3}, {1, 1, 11, 3});
    CHECK_THAT(refusal(reading(path)), Catch::StartsWith("3: ") && Catch::Contains("same number of rows") &&
                                           Catch::Contains("(1, 1, 11, 3)"));
  }
  SECTION("batches") {
    write_inputs(path, {2, 1, 10, 3}, {1, 1, 12, 3}, {1, 1, 12, 3});
    CHECK_THAT(refusal(reading(path)), Catch::StartsWith("3: ") && Catch::Contains("same batch"));
  }
  SECTION("heads of keys and values") {
    write_inputs(path, {1, 2, 10, 3}, {1, 2, 12, 3}, {1, 1, 12, 3});
    CHECK_THAT(refusal(reading(path)), Catch::StartsWith("3: ") &&
                                           Catch::Contains("k and v the same heads") &&
                                           Catch::Contains("v is (1, 1, 12, 3)"));
  }
  SECTION("heads") {
    write_inputs(path, {1, 3, 10, 3}, {1, 2, 12, 3}, {1, 2, 12, 3});
    CHECK_THAT(refusal(reading(path)), Catch::StartsWith("3: ") &&
                                           Catch::Contains("the heads of q must be a multiple") &&
                                           Catch::Contains("(1, 3, 10, 3)"));
  }
  SECTION("grouped queries fit") {
    write_inputs(path, {1, 4, 10, 3}, {1, 2, 12, 3}, {1, 2, 12, 3});
    CHECK(refusal(reading(path)) == "accepted");
  }
}

TEST_CASE("non-finite values in a file are refused with their place") {
  const testing::ScratchFolder folder;
  const std::string path = folder / "inputs.h5";
  const float value =
      GENERATE(std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity());
  Tensor<float> k = counting({1, 2, 8, 3}, 0);
  k.matrix(1).row(5)[2] = value;
  {
    Hdf5File out = Hdf5File::create(path);
    out.write_tensor("/inputs/q", counting({1, 2, 8, 3}, 0).view());
    out.write_tensor("/inputs/k", k.view());
    out.write_tensor("/inputs/v", counting({1, 2, 8, 3}, 0).view());
    out.close();
  }
  Parameters parameters = reading(path);
  CHECK_THAT(refusal(parameters), Catch::StartsWith("3: /inputs/k of '") && Catch::Contains("[0, 1, 5, 2]"));
  parameters.set("key_rows", IntegerList{4, 8});
  CHECK_THAT(refusal(parameters), Catch::Contains("rows from 4") && Catch::Contains("[0, 1, 1, 2]"));
  parameters.set("key_rows", IntegerList{0, 5});
  CHECK(refusal(parameters) == "accepted");  // the value lies outside
}

TEST_CASE("a missing file and a file of another kind are refused") {
  const testing::ScratchFolder folder;
  const std::string path = folder / "inputs.h5";
  CHECK_THAT(refusal(reading(path)), Catch::StartsWith("3: ") && Catch::Contains(path));
  std::ofstream(path) << "not HDF5";
  CHECK_THAT(refusal(reading(path)), Catch::StartsWith("3: ") && Catch::Contains(path));
}

}  // namespace
}  // namespace hyperattn
