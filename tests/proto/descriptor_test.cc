// The protos as they are keep every habit, and each check notices when one is broken.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "google/api/client.pb.h"
#include "google/api/resource.pb.h"
#include "google/longrunning/operations.pb.h"
#include "gtest/gtest.h"
#include "tests/proto/habits.h"

namespace secateur {
namespace {

namespace pb = google::protobuf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

pb::FileDescriptorSet ReadSet() {
  // Named here so that the linker keeps the files that register the options.
  (void)google::longrunning::operation_info;
  (void)google::api::method_signature;
  pb::FileDescriptorSet set;
  std::ifstream in(SECATEUR_DESCRIPTOR_SET, std::ios::binary);
  EXPECT_TRUE(set.ParseFromIstream(&in)) << SECATEUR_DESCRIPTOR_SET;
  return set;
}

// Our files of a set, built; dependencies come first in the set.
class Files {
 public:
  explicit Files(const pb::FileDescriptorSet& set) {
    for (const pb::FileDescriptorProto& file : set.file()) {
      const pb::FileDescriptor* built = pool_.BuildFile(file);
      EXPECT_NE(built, nullptr) << file.name();
      if (built != nullptr && file.name().rfind("secateur/", 0) == 0) ours_.push_back(built);
    }
  }

  const std::vector<const pb::FileDescriptor*>& ours() const { return ours_; }
  std::vector<std::string> resource_types() const {
    std::vector<std::string> all;
    for (const auto* file : ours_) {
      for (const std::string& type : ResourceTypes(*file)) all.push_back(type);
    }
    return all;
  }
  // What `check` says of all files together.
  Complaints Run(const std::function<Complaints(const pb::FileDescriptor&)>& check) const {
    Complaints all;
    for (const auto* file : ours_) {
      for (const std::string& complaint : check(*file)) all.push_back(complaint);
    }
    return all;
  }

 private:
  pb::DescriptorPool pool_;
  std::vector<const pb::FileDescriptor*> ours_;
};

Complaints CheckAll(const pb::FileDescriptorSet& set) {
  const Files files(set);
  return files.Run([&](const pb::FileDescriptor& file) {
    Complaints all;
    for (const Complaints& some :
         {CheckComments(file), CheckNames(file), CheckNumbers(file), CheckResources(file),
          CheckFields(file, files.resource_types()), CheckMethods(file)}) {
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  });
}

TEST(Protos, AreTheFilesOfTheContract) {
  std::vector<std::string> names;
  const Files files(ReadSet());
  for (const auto* file : files.ours()) names.push_back(file->name());
  EXPECT_THAT(names, UnorderedElementsAre(
                         "secateur/v1/expert_spec.proto", "secateur/v1/expert_report.proto",
                         "secateur/v1/resources.proto", "secateur/v1/operation.proto",
                         "secateur/v1/manifest.proto", "secateur/v1/secateur.proto"));
  EXPECT_THAT(files.resource_types(), ElementsAre("secateur.dev/Model", "secateur.dev/Corpus",
                                                  "secateur.dev/Profile", "secateur.dev/Expert"));
}

TEST(Protos, CommentEveryElementAndListTheErrorsOfEveryRpc) {
  EXPECT_THAT(Files(ReadSet()).Run(CheckComments), IsEmpty());
}

TEST(Protos, NameThingsByTheApiGuides) { EXPECT_THAT(Files(ReadSet()).Run(CheckNames), IsEmpty()); }

TEST(Protos, NumberFieldsWithoutGaps) {
  EXPECT_THAT(Files(ReadSet()).Run(CheckNumbers), IsEmpty());
}

TEST(Protos, DescribeTheirResources) {
  EXPECT_THAT(Files(ReadSet()).Run(CheckResources), IsEmpty());
}

TEST(Protos, SayOfEveryFieldHowItBehaves) {
  const Files files(ReadSet());
  const auto types = files.resource_types();
  EXPECT_THAT(files.Run([&](const auto& file) { return CheckFields(file, types); }), IsEmpty());
}

TEST(Protos, ShapeMethodsByTheApiGuides) {
  EXPECT_THAT(Files(ReadSet()).Run(CheckMethods), IsEmpty());
}

// Finds things to break.
class Editor {
 public:
  explicit Editor(pb::FileDescriptorSet& set) : set_(set) {}

  pb::FileDescriptorProto& File(const std::string& name) {
    for (auto& file : *set_.mutable_file()) {
      if (file.name() == "secateur/v1/" + name + ".proto") return file;
    }
    throw std::runtime_error("no file " + name);
  }
  pb::DescriptorProto& Message(const std::string& name) {
    for (auto& file : *set_.mutable_file()) {
      if (file.package() != "secateur.v1") continue;
      for (auto& message : *file.mutable_message_type()) {
        if (message.name() == name) return message;
      }
    }
    throw std::runtime_error("no message " + name);
  }
  pb::FieldDescriptorProto& Field(const std::string& message, int index) {
    return *Message(message).mutable_field(index);
  }
  pb::MethodDescriptorProto& Method(const std::string& name) {
    for (auto& method : *File("secateur").mutable_service(0)->mutable_method()) {
      if (method.name() == name) return method;
    }
    throw std::runtime_error("no method " + name);
  }
  // Replaces text in every comment of a file.
  void EditComments(const std::string& file, const std::string& from, const std::string& to) {
    for (auto& place : *File(file).mutable_source_code_info()->mutable_location()) {
      place.set_leading_comments(absl::StrReplaceAll(place.leading_comments(), {{from, to}}));
    }
  }
  void DropComments(const std::string& file) {
    for (auto& place : *File(file).mutable_source_code_info()->mutable_location()) {
      place.clear_leading_comments();
    }
  }

 private:
  pb::FileDescriptorSet& set_;
};

struct Breach {
  const char* name;
  std::function<void(Editor&)> make;
  const char* complaint;
};

const Breach kBreaches[] = {
    {"MessageWithoutComment", [](Editor& e) { e.DropComments("resources"); },
     "secateur.v1.Model has no comment"},
    {"FieldWithoutComment", [](Editor& e) { e.DropComments("expert_report"); },
     "secateur.v1.Size.width has no comment"},
    {"EnumValueWithoutComment", [](Editor& e) { e.DropComments("expert_spec"); },
     "secateur.v1.CELL has no comment"},
    {"OneofWithoutComment", [](Editor& e) { e.DropComments("expert_spec"); },
     "secateur.v1.Budget.size has no comment"},
    {"RpcWithoutErrors", [](Editor& e) { e.EditComments("secateur", "Errors:", "Trouble:"); },
     "secateur.v1.Secateur.WatchOperation does not list its errors"},
    {"NumberWithoutDefault", [](Editor& e) { e.EditComments("secateur", "Default", "Usually"); },
     "secateur.v1.ListModelsRequest.page_size does not say its default"},
    {"CamelCaseField", [](Editor& e) { e.Field("Size", 0).set_name("fullWidth"); },
     "secateur.v1.Size.fullWidth does not look like"},
    {"LowerCaseMessage", [](Editor& e) { e.Message("Manifest").set_name("manifest_file"); },
     "secateur.v1.manifest_file does not look like"},
    {"ZeroValueWithAMeaning",
     [](Editor& e) {
       e.File("secateur").mutable_enum_type(0)->mutable_value(0)->set_name("ANY_FORMAT");
     },
     "secateur.v1.CorpusFormat begins with ANY_FORMAT"},
    {"OtherPackage",
     [](Editor& e) { e.File("manifest").mutable_options()->set_java_package("com.example"); },
     "secateur/v1/manifest.proto has another java_package"},
    {"GapInFieldNumbers", [](Editor& e) { e.Field("Size", 6).set_number(12); },
     "secateur.v1.Size has no field 7"},
    {"GapInEnumNumbers",
     [](Editor& e) { e.File("secateur").mutable_enum_type(0)->mutable_value(2)->set_number(3); },
     "secateur.v1.CorpusFormat has no value 2"},
    {"ResourceWithoutPattern",
     [](Editor& e) {
       e.Message("Model")
           .mutable_options()
           ->MutableExtension(google::api::resource)
           ->clear_pattern();
     },
     "secateur.v1.Model has no pattern that ends in {model}"},
    {"ResourceWithoutIdentifier", [](Editor& e) { e.Field("Expert", 0).clear_options(); },
     "secateur.v1.Expert does not begin with its name"},
    {"ResourceWithoutPlural",
     [](Editor& e) {
       e.Message("Corpus")
           .mutable_options()
           ->MutableExtension(google::api::resource)
           ->clear_plural();
     },
     "secateur.v1.Corpus lacks plural or singular"},
    {"FieldWithoutBehavior", [](Editor& e) { e.Field("GetModelRequest", 0).clear_options(); },
     "secateur.v1.GetModelRequest.name has no field_behavior"},
    {"ReferenceToNothing",
     [](Editor& e) {
       e.Field("GetModelRequest", 0)
           .mutable_options()
           ->MutableExtension(google::api::resource_reference)
           ->set_type("secateur.dev/Modell");
     },
     "secateur.v1.GetModelRequest.name refers to secateur.dev/Modell"},
    {"RequestOfAnotherMethod",
     [](Editor& e) { e.Method("GetCorpus").set_input_type(".secateur.v1.GetModelRequest"); },
     "secateur.v1.Secateur.GetCorpus takes secateur.v1.GetModelRequest"},
    {"ResponseOfAnotherMethod",
     [](Editor& e) { e.Method("DeleteCorpus").set_output_type(".secateur.v1.Corpus"); },
     "secateur.v1.Secateur.DeleteCorpus returns secateur.v1.Corpus"},
    {"ListWithoutPages", [](Editor& e) { e.Field("ListModelsRequest", 0).set_name("page_length"); },
     "secateur.v1.ListModelsRequest needs page_size"},
    {"ListWithoutNextPage",
     [](Editor& e) { e.Field("ListModelsResponse", 1).set_name("next_token"); },
     "secateur.v1.ListModelsResponse needs next_page_token"},
    {"OperationWithoutResponseType",
     [](Editor& e) {
       e.Method("CreateExpert")
           .mutable_options()
           ->MutableExtension(google::longrunning::operation_info)
           ->set_response_type("Experts");
     },
     "secateur.v1.Secateur.CreateExpert has operation_info with \"Experts\""},
    {"SignatureOfNoField",
     [](Editor& e) {
       e.Method("GetModel").mutable_options()->SetExtension(google::api::method_signature, 0, "id");
     },
     "secateur.v1.Secateur.GetModel has id in its signature"},
};

class Breaches : public testing::TestWithParam<Breach> {};

TEST_P(Breaches, AreNoticed) {
  pb::FileDescriptorSet set = ReadSet();
  Editor editor(set);
  GetParam().make(editor);
  EXPECT_THAT(CheckAll(set), Contains(HasSubstr(GetParam().complaint)));
}

INSTANTIATE_TEST_SUITE_P(Protos, Breaches, testing::ValuesIn(kBreaches),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace secateur
