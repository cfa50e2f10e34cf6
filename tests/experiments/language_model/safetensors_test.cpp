// The safetensors reader: what is read, and how hostile files are refused.
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <limits>

#include "experiments/language_model/safetensors.h"
#include "tests/experiments/language_model/fixture.h"

using namespace hyperattn;
using namespace hyperattn::testing;
using Catch::Contains;

namespace {

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// The error for a file with this header and data.
std::string refusal(const std::string& header, const std::string& data = std::string(16, '\0')) {
  const ScratchFolder folder;
  const std::string file = folder / "model.safetensors";
  write_file(file, safetensors_bytes(header, data));
  const std::string message = input_error([&] { TensorArchive::open(folder.path()); });
  CHECK_THAT(message, Contains("model.safetensors"));
  return message;
}

std::string refusal_of_bytes(const std::string& bytes) {
  const ScratchFolder folder;
  write_file(folder / "model.safetensors", bytes);
  return input_error([&] { TensorArchive::open(folder.path()); });
}

}  // namespace

TEST_CASE("safetensors: F32, F16 and BF16 are read as float32, with the special values of each") {
  // F16: 1, -2, the largest, the smallest subnormal, the largest subnormal, -0; BF16: 1, -2.
  const std::string data = bytes_of(std::vector<float>{1.5F, -3.25F}) +
                           bytes_of(std::vector<uint16_t>{0x3c00, 0xc000, 0x7bff, 0x0001, 0x03ff, 0x8000}) +
                           bytes_of(std::vector<uint16_t>{0x3f80, 0xc000});
  const ScratchFolder folder;
  write_file(folder / "model.safetensors",
             safetensors_bytes(R"({"b":{"dtype":"F16","shape":[2,3],"data_offsets":[8,20]},)"
                               R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                               R"("c":{"dtype":"BF16","shape":[2,1],"data_offsets":[20,24]}}  )",
                               data));
  const TensorArchive archive = TensorArchive::open(folder.path());
  CHECK(archive.names() == std::vector<std::string>{"a", "b", "c"});
  const Buffer<float> a = archive.read("a", {2});
  CHECK(std::vector<float>(a.begin(), a.end()) == std::vector<float>{1.5F, -3.25F});
  const Buffer<float> b = archive.read("b", {2, 3});
  CHECK(std::vector<float>(b.begin(), b.end()) ==
        std::vector<float>{1.0F, -2.0F, 65504.0F, 0x1p-24F, 1023 * 0x1p-24F, -0.0F});
  CHECK(std::signbit(b[5]));
  const Buffer<float> c = archive.read("c", {2, 1});
  CHECK(std::vector<float>(c.begin(), c.end()) == std::vector<float>{1.0F, -2.0F});
}

TEST_CASE("safetensors: reading refuses a missing name, another shape, another type and non-finite values") {
  const std::string data = bytes_of(std::vector<uint16_t>{0x7c00, 0x7e00}) + std::string(8, '\0');
  const ScratchFolder folder;
  write_file(folder / "model.safetensors",
             safetensors_bytes(R"({"half.weight":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},)"
                               R"("count":{"dtype":"I64","shape":[],"data_offsets":[4,12]}})",
                               data));
  const TensorArchive archive = TensorArchive::open(folder.path());
  CHECK_THAT(input_error([&] { (void)archive.read("half.wieght", {2}); }),
             Contains("no tensor 'half.wieght'") && Contains("'half.weight'"));
  CHECK_THAT(input_error([&] {
               (void)archive.read("half.weight", {2, 1});
             }),
             Contains("shape [2]") && Contains("needs [2, 1]"));
  CHECK_THAT(input_error([&] { (void)archive.read("half.weight", {2}); }),
             Contains("non-finite") && Contains("position 0"));
  CHECK_THAT(input_error([&] { (void)archive.read("count", {}); }), Contains("type I64"));
  write_file(folder / "quantised.safetensors",
             safetensors_bytes(R"({"w":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}})", "ab"));
  const TensorArchive quantised = TensorArchive::open_file(folder / "quantised.safetensors");
  CHECK_THAT(input_error([&] { (void)quantised.read("w", {2}); }),
             Contains("F8_E4M3") && Contains("quantised"));
}

TEST_CASE("safetensors: hostile headers are refused, each with its reason") {
  const std::string begin = R"({"t":{"dtype":"F32","shape":)";
  CHECK_THAT(refusal("not json at all"), Contains("not valid JSON"));
  CHECK_THAT(refusal("[1, 2]"), Contains("must be a JSON object"));
  CHECK_THAT(refusal(R"({"t": 5})"), Contains("'t'") && Contains("must be an object"));
  CHECK_THAT(refusal(R"({"t":{"shape":[4],"data_offsets":[0,16]}})"), Contains("no 'dtype'"));
  CHECK_THAT(refusal(R"({"t":{"dtype":"F33","shape":[4],"data_offsets":[0,16]}})"), Contains("'F33'"));
  CHECK_THAT(refusal(begin + R"([4],"data_offsets":[0,20]}})"),
             Contains("[0, 20]") && Contains("16 bytes of data"));
  CHECK_THAT(refusal(begin + R"([4],"data_offsets":[16,0]}})"), Contains("[16, 0]") && Contains("before"));
  CHECK_THAT(refusal(begin + R"([4],"data_offsets":[-16,0]}})"), Contains("non-negative"));
  CHECK_THAT(refusal(begin + R"([4],"data_offsets":[0,16.0]}})"), Contains("non-negative"));
  CHECK_THAT(refusal(begin + R"([4],"data_offsets":[0]}})"), Contains("list of two"));
  CHECK_THAT(refusal(begin + R"([-4],"data_offsets":[0,16]}})"), Contains("non-negative"));
  CHECK_THAT(refusal(begin + R"([5],"data_offsets":[0,16]}})"), Contains("takes 20 bytes"));
  CHECK_THAT(refusal(begin + R"([4611686018427387904,4],"data_offsets":[0,16]}})"),
             Contains("more than 2^63"));
  CHECK_THAT(refusal(begin + R"([4611686018427387904,0],"data_offsets":[0,16]}})"),
             Contains("takes 0 bytes"));
  CHECK_THAT(refusal(begin + R"([18446744073709551616],"data_offsets":[0,16]}})"), Contains("non-negative"));
  CHECK_THAT(refusal(begin + R"([2],"data_offsets":[0,8]}})"), Contains("take only 8"));
  const std::string two = R"("shape":[2],"data_offsets":[)";
  CHECK_THAT(refusal(R"({"s":{"dtype":"F32",)" + two + R"(0,8]},"t":{"dtype":"F32",)" + two + "4,12]}}"),
             Contains("overlap"));
  CHECK_THAT(refusal(R"({"s":{"dtype":"F32",)" + two + R"(0,8]},"t":{"dtype":"F32",)" + two + "12,20]}}",
                     std::string(20, '\0')),
             Contains("hole"));
  CHECK_THAT(refusal(R"({"t":{"dtype":"F32",)" + two + R"(0,8]},"t":{"dtype":"F32",)" + two + "8,16]}}"),
             Contains("'t' twice"));
  CHECK_THAT(refusal("{}"), Contains("take only 0"));
  // Deeply nested: neither a crash nor a hang.
  CHECK_THAT(refusal(std::string(200'000, '[')), Contains("not valid JSON"));
}

TEST_CASE("safetensors: truncated files are refused at every length") {
  const std::string whole =
      safetensors_bytes(R"({"t":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", std::string(16, '\0'));
  CHECK(refusal_of_bytes(whole) == "no error");
  for (size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    CHECK_THAT(refusal_of_bytes(whole.substr(0, length)), Contains("model.safetensors"));
  }
  std::string huge = whole;
  std::memset(huge.data(), 0xff, 8);
  CHECK_THAT(refusal_of_bytes(huge), Contains("18446744073709551615"));
}

TEST_CASE("safetensors: weights in another form are named, and what to do") {
  CHECK_THAT(refusal_of_bytes("GGUF" + std::string(100, '\0')),
             Contains("is a GGUF file") && Contains("scripts/fetch_smollm2.sh"));
  for (const std::string name : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    const ScratchFolder folder;
    CHECK_THAT(input_error([&] { TensorArchive::open(folder.path()); }),
               Catch::Matchers::EndsWith("' has neither model.safetensors nor model.safetensors.index.json"));
    write_file(folder / name, "PK");
    CHECK_THAT(input_error([&] { TensorArchive::open(folder.path()); }),
               Catch::Matchers::EndsWith("; its " + name + " is not read: save the model as safetensors"));
  }
}

TEST_CASE("safetensors: shards must lie where the index says, inside its folder") {
  const auto index_error = [](const std::string& index) {
    const ScratchFolder folder;
    write_file(folder / "a.safetensors",
               safetensors_bytes(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "abcd"));
    write_file(folder / "model.safetensors.index.json", index);
    return input_error([&] { TensorArchive::open(folder.path()); });
  };
  CHECK(index_error(R"({"weight_map":{"t":"a.safetensors"}})") == "no error");
  CHECK_THAT(index_error(R"({"weight_map":{"u":"a.safetensors"}})"),
             Contains("'u'") && Contains("not there"));
  CHECK_THAT(index_error(R"({"weight_map":{"t":"b.safetensors"}})"), Contains("no file"));
  CHECK_THAT(index_error(R"({"weight_map":{"t":"../a.safetensors"}})"), Contains("same folder"));
  CHECK_THAT(index_error(R"({"weight_map":{"t":".."}})"), Contains("same folder"));
  CHECK_THAT(index_error(R"({"weight_map":{"t":7}})"), Contains("must be text"));
  CHECK_THAT(index_error(R"({"weight_map":[]})"), Contains("must be an object"));
  CHECK_THAT(index_error("{}"), Contains("no 'weight_map'"));
  const ScratchFolder empty;
  CHECK_THAT(input_error([&] { TensorArchive::open(empty.path()); }), Contains("neither"));
}
