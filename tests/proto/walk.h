// Visits the elements of a proto file, nested ones too.
#pragma once

#include <google/protobuf/descriptor.h>

#include <functional>

namespace secateur {

namespace pb = google::protobuf;

// Every message of a file, nested ones too, but not the entries of maps.
inline void ForEachMessage(const pb::Descriptor& message,
                           const std::function<void(const pb::Descriptor&)>& visit) {
  if (message.options().map_entry()) return;
  visit(message);
  for (int i = 0; i < message.nested_type_count(); ++i) {
    ForEachMessage(*message.nested_type(i), visit);
  }
}
inline void ForEachMessage(const pb::FileDescriptor& file,
                           const std::function<void(const pb::Descriptor&)>& visit) {
  for (int i = 0; i < file.message_type_count(); ++i) ForEachMessage(*file.message_type(i), visit);
}

inline void ForEachField(const pb::FileDescriptor& file,
                         const std::function<void(const pb::FieldDescriptor&)>& visit) {
  ForEachMessage(file, [&](const pb::Descriptor& message) {
    for (int i = 0; i < message.field_count(); ++i) visit(*message.field(i));
  });
}

inline void ForEachEnum(const pb::FileDescriptor& file,
                        const std::function<void(const pb::EnumDescriptor&)>& visit) {
  for (int i = 0; i < file.enum_type_count(); ++i) visit(*file.enum_type(i));
  ForEachMessage(file, [&](const pb::Descriptor& message) {
    for (int i = 0; i < message.enum_type_count(); ++i) visit(*message.enum_type(i));
  });
}

inline void ForEachMethod(const pb::FileDescriptor& file,
                          const std::function<void(const pb::MethodDescriptor&)>& visit) {
  for (int i = 0; i < file.service_count(); ++i) {
    for (int j = 0; j < file.service(i)->method_count(); ++j) visit(*file.service(i)->method(j));
  }
}

}  // namespace secateur
