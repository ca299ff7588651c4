#include "tests/proto/habits.h"

#include <algorithm>
#include <regex>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "google/api/client.pb.h"
#include "google/api/field_behavior.pb.h"
#include "google/api/resource.pb.h"
#include "google/longrunning/operations.pb.h"
#include "tests/proto/walk.h"

namespace secateur {
namespace {

template <class Element>
std::string CommentOf(const Element& element) {
  pb::SourceLocation location;
  return element.GetSourceLocation(&location) ? location.leading_comments : "";
}

template <class Element>
void NeedComment(const Element& element, Complaints& complaints) {
  const std::string comment = CommentOf(element);
  if (absl::StripAsciiWhitespace(comment).empty()) {
    complaints.push_back(element.full_name() + " has no comment");
  }
}

bool HasBehavior(const pb::FieldDescriptor& field, google::api::FieldBehavior behavior) {
  const auto& options = field.options();
  for (int i = 0; i < options.ExtensionSize(google::api::field_behavior); ++i) {
    if (options.GetExtension(google::api::field_behavior, i) == behavior) return true;
  }
  return false;
}

// Numbers, flags and enums mean something when they are left out.
bool NeedsDefault(const pb::FieldDescriptor& field) {
  return HasBehavior(field, google::api::OPTIONAL) && !field.is_repeated() &&
         field.type() != pb::FieldDescriptor::TYPE_STRING &&
         field.type() != pb::FieldDescriptor::TYPE_BYTES &&
         field.type() != pb::FieldDescriptor::TYPE_MESSAGE;
}

void NeedMatch(const std::string& full_name, const std::string& name, const char* pattern,
               Complaints& complaints) {
  if (!std::regex_match(name, std::regex(pattern))) {
    complaints.push_back(absl::StrCat(full_name, " does not look like ", pattern));
  }
}

// CorpusFormat to CORPUS_FORMAT.
std::string UpperSnake(const std::string& camel) {
  return absl::AsciiStrToUpper(std::regex_replace(camel, std::regex("([a-z0-9])([A-Z])"), "$1_$2"));
}

bool IsOperation(const pb::MethodDescriptor& method) {
  return method.output_type()->full_name() == "google.longrunning.Operation";
}

// "Get" of "GetModel"; empty for methods that are not standard.
std::string StandardVerb(const std::string& method) {
  for (const char* verb : {"Get", "List", "Update", "Delete"}) {
    if (absl::StartsWith(method, verb)) return verb;
  }
  return "";
}

// The message that a method should return, by its name.
std::string WantedOutput(const pb::MethodDescriptor& method) {
  const std::string package = method.file()->package() + ".";
  const std::string verb = StandardVerb(method.name());
  if (IsOperation(method)) return "google.longrunning.Operation";
  if (verb == "Delete") return "google.protobuf.Empty";
  if (verb == "Get" || verb == "Update") return package + method.name().substr(verb.size());
  return package + method.name() + "Response";
}

void NeedField(const pb::Descriptor& message, const char* name, pb::FieldDescriptor::Type type,
               Complaints& complaints) {
  const pb::FieldDescriptor* field = message.FindFieldByName(name);
  if (field == nullptr || field->type() != type || field->is_repeated()) {
    complaints.push_back(absl::StrCat(message.full_name(), " needs ", name));
  }
}

void CheckPages(const pb::MethodDescriptor& method, Complaints& complaints) {
  NeedField(*method.input_type(), "page_size", pb::FieldDescriptor::TYPE_INT32, complaints);
  NeedField(*method.input_type(), "page_token", pb::FieldDescriptor::TYPE_STRING, complaints);
  NeedField(*method.output_type(), "next_page_token", pb::FieldDescriptor::TYPE_STRING, complaints);
  const pb::Descriptor& output = *method.output_type();
  if (output.field_count() == 0 || !output.field(0)->is_repeated()) {
    complaints.push_back(output.full_name() + " does not begin with its items");
  }
}

void CheckOperationInfo(const pb::MethodDescriptor& method, Complaints& complaints) {
  const auto& info = method.options().GetExtension(google::longrunning::operation_info);
  for (const std::string& type : {info.response_type(), info.metadata_type()}) {
    const std::string full_name = absl::StrCat(method.file()->package(), ".", type);
    if (method.file()->pool()->FindMessageTypeByName(full_name) == nullptr) {
      complaints.push_back(
          absl::StrCat(method.full_name(), " has operation_info with \"", type, "\""));
    }
  }
}

void CheckSignature(const pb::MethodDescriptor& method, Complaints& complaints) {
  if (method.client_streaming()) return;
  if (method.options().ExtensionSize(google::api::method_signature) == 0) {
    complaints.push_back(method.full_name() + " has no method_signature");
    return;
  }
  const std::string fields = method.options().GetExtension(google::api::method_signature, 0);
  const std::vector<std::string> names = absl::StrSplit(fields, ',', absl::SkipEmpty());
  for (const std::string& field : names) {
    if (method.input_type()->FindFieldByName(field) == nullptr) {
      complaints.push_back(absl::StrCat(method.full_name(), " has ", field, " in its signature"));
    }
  }
}

}  // namespace

Complaints CheckComments(const pb::FileDescriptor& file) {
  Complaints complaints;
  ForEachMessage(file, [&](const pb::Descriptor& message) {
    NeedComment(message, complaints);
    for (int i = 0; i < message.real_oneof_decl_count(); ++i) {
      NeedComment(*message.oneof_decl(i), complaints);
    }
  });
  ForEachField(file, [&](const pb::FieldDescriptor& field) {
    NeedComment(field, complaints);
    const std::string comment = CommentOf(field);
    const bool told =
        absl::StrContains(comment, "Default") || absl::StrContains(comment, "Not served");
    if (NeedsDefault(field) && !told) {
      complaints.push_back(field.full_name() + " does not say its default");
    }
  });
  ForEachEnum(file, [&](const pb::EnumDescriptor& one) {
    NeedComment(one, complaints);
    for (int i = 0; i < one.value_count(); ++i) NeedComment(*one.value(i), complaints);
  });
  for (int i = 0; i < file.service_count(); ++i) NeedComment(*file.service(i), complaints);
  ForEachMethod(file, [&](const pb::MethodDescriptor& method) {
    NeedComment(method, complaints);
    if (!absl::StrContains(CommentOf(method), "Errors:")) {
      complaints.push_back(method.full_name() + " does not list its errors");
    }
  });
  return complaints;
}

Complaints CheckNames(const pb::FileDescriptor& file) {
  Complaints complaints;
  if (file.package() != "secateur.v1" || !absl::StartsWith(file.name(), "secateur/v1/")) {
    complaints.push_back(absl::StrCat(file.name(), " has the package ", file.package()));
  }
  if (file.options().java_package() != "dev.secateur.v1") {
    complaints.push_back(file.name() + " has another java_package than dev.secateur.v1");
  }
  ForEachMessage(file, [&](const pb::Descriptor& message) {
    NeedMatch(message.full_name(), message.name(), "([A-Z][a-z0-9]*)+", complaints);
  });
  ForEachField(file, [&](const pb::FieldDescriptor& field) {
    NeedMatch(field.full_name(), field.name(), "[a-z][a-z0-9]*(_[a-z0-9]+)*", complaints);
  });
  ForEachEnum(file, [&](const pb::EnumDescriptor& one) {
    for (int i = 0; i < one.value_count(); ++i) {
      NeedMatch(one.value(i)->full_name(), one.value(i)->name(), "[A-Z][A-Z0-9]*(_[A-Z0-9]+)*",
                complaints);
    }
    if (one.value(0)->name() != UpperSnake(one.name()) + "_UNSPECIFIED") {
      complaints.push_back(absl::StrCat(one.full_name(), " begins with ", one.value(0)->name()));
    }
  });
  return complaints;
}

Complaints CheckNumbers(const pb::FileDescriptor& file) {
  Complaints complaints;
  ForEachMessage(file, [&](const pb::Descriptor& message) {
    int last = 0;
    for (int i = 0; i < message.field_count(); ++i) {
      last = std::max(last, message.field(i)->number());
    }
    for (int number = 1; number <= last; ++number) {
      if (message.FindFieldByNumber(number) == nullptr && !message.IsReservedNumber(number)) {
        complaints.push_back(absl::StrCat(message.full_name(), " has no field ", number));
      }
    }
  });
  ForEachEnum(file, [&](const pb::EnumDescriptor& one) {
    int last = 0;
    for (int i = 0; i < one.value_count(); ++i) last = std::max(last, one.value(i)->number());
    for (int number = 0; number <= last; ++number) {
      if (one.FindValueByNumber(number) == nullptr && !one.IsReservedNumber(number)) {
        complaints.push_back(absl::StrCat(one.full_name(), " has no value ", number));
      }
    }
  });
  return complaints;
}

std::vector<std::string> ResourceTypes(const pb::FileDescriptor& file) {
  std::vector<std::string> types;
  ForEachMessage(file, [&](const pb::Descriptor& message) {
    const std::string type = message.options().GetExtension(google::api::resource).type();
    if (!type.empty()) types.push_back(type);
  });
  return types;
}

Complaints CheckResources(const pb::FileDescriptor& file) {
  Complaints complaints;
  ForEachMessage(file, [&](const pb::Descriptor& message) {
    if (!message.options().HasExtension(google::api::resource)) return;
    const auto& resource = message.options().GetExtension(google::api::resource);
    if (resource.type() != "secateur.dev/" + message.name()) {
      complaints.push_back(absl::StrCat(message.full_name(), " has the type ", resource.type()));
    }
    const std::string variable = absl::StrCat("{", absl::AsciiStrToLower(message.name()), "}");
    if (resource.pattern_size() == 0 || !absl::EndsWith(resource.pattern(0), "/" + variable)) {
      complaints.push_back(message.full_name() + " has no pattern that ends in " + variable);
    }
    if (resource.plural().empty() || resource.singular().empty()) {
      complaints.push_back(message.full_name() + " lacks plural or singular");
    }
    const pb::FieldDescriptor* name = message.FindFieldByNumber(1);
    if (name == nullptr || name->name() != "name" ||
        name->type() != pb::FieldDescriptor::TYPE_STRING ||
        !HasBehavior(*name, google::api::IDENTIFIER)) {
      complaints.push_back(message.full_name() + " does not begin with its name");
    }
  });
  return complaints;
}

Complaints CheckFields(const pb::FileDescriptor& file,
                       const std::vector<std::string>& resource_types) {
  const std::set<std::string> known(resource_types.begin(), resource_types.end());
  Complaints complaints;
  ForEachField(file, [&](const pb::FieldDescriptor& field) {
    const bool in_response = absl::EndsWith(field.containing_type()->name(), "Response");
    const bool has_behavior = field.options().ExtensionSize(google::api::field_behavior) > 0;
    if (!in_response && field.real_containing_oneof() == nullptr && !has_behavior) {
      complaints.push_back(field.full_name() + " has no field_behavior");
    }
    if (!field.options().HasExtension(google::api::resource_reference)) return;
    const auto& reference = field.options().GetExtension(google::api::resource_reference);
    const std::string& type = reference.type().empty() ? reference.child_type() : reference.type();
    if (known.count(type) == 0) {
      complaints.push_back(absl::StrCat(field.full_name(), " refers to ", type));
    }
  });
  return complaints;
}

Complaints CheckMethods(const pb::FileDescriptor& file) {
  Complaints complaints;
  ForEachMethod(file, [&](const pb::MethodDescriptor& method) {
    if (method.input_type()->name() != method.name() + "Request") {
      complaints.push_back(
          absl::StrCat(method.full_name(), " takes ", method.input_type()->full_name()));
    }
    if (method.output_type()->full_name() != WantedOutput(method)) {
      complaints.push_back(
          absl::StrCat(method.full_name(), " returns ", method.output_type()->full_name()));
    }
    if (StandardVerb(method.name()) == "List") CheckPages(method, complaints);
    if (IsOperation(method)) CheckOperationInfo(method, complaints);
    CheckSignature(method, complaints);
  });
  return complaints;
}

}  // namespace secateur
