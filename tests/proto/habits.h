// What our protos promise, as checks: each returns a sentence for every breach, naming the element
// by its full name, and nothing when all is well. The descriptors carry their comments.
#pragma once

#include <google/protobuf/descriptor.h>

#include <string>
#include <vector>

namespace secateur {

using Complaints = std::vector<std::string>;

// Every message, field, oneof, enum, enum value, service and RPC has a comment above it; that of an
// RPC lists its errors; that of an optional number, flag or enum says its default.
Complaints CheckComments(const google::protobuf::FileDescriptor& file);
// CamelCase messages, lower_snake fields, UPPER_SNAKE enum values, zero values that are
// unspecified, the package and the folder.
Complaints CheckNames(const google::protobuf::FileDescriptor& file);
// Numbers from 1 (enums: 0) without gaps other than reserved ones.
Complaints CheckNumbers(const google::protobuf::FileDescriptor& file);
// Resources: pattern, type, plural and singular; `name` is field 1, a string and the identifier.
Complaints CheckResources(const google::protobuf::FileDescriptor& file);
// Fields outside of responses say whether they are required, optional or output, and references
// point at types in `resource_types`.
Complaints CheckFields(const google::protobuf::FileDescriptor& file,
                       const std::vector<std::string>& resource_types);
// Requests and responses are named after their method, lists have pages, long operations say what
// they return, method signatures name fields of the request.
Complaints CheckMethods(const google::protobuf::FileDescriptor& file);

// Types of the resources of a file: "secateur.dev/Model".
std::vector<std::string> ResourceTypes(const google::protobuf::FileDescriptor& file);

}  // namespace secateur
