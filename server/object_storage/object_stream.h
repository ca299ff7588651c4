// An object being uploaded. Arrow's streams publish what they hold when they are destroyed; this
// one discards it unless Close() was OK. One thread at a time; every call may block.
// Private to object storage.
#pragma once

#include <arrow/buffer.h>
#include <arrow/io/interfaces.h>

#include <memory>
#include <string>
#include <vector>

#include "server/object_storage/object_filesystem.h"

namespace secateur {

class ObjectStream {
 public:
  // `scratch` is a folder around `path` that goes with what is discarded, for stores that cannot
  // abort; empty for those that can.
  ObjectStream(const ObjectFilesystem& store, std::string path, std::string scratch);
  ~ObjectStream() { Discard(); }
  ObjectStream(const ObjectStream&) = delete;
  ObjectStream& operator=(const ObjectStream&) = delete;

  // Sends parts; each is there when this returns, if `wait` is true. All but the last of an object
  // have the store's part size.
  arrow::Status Write(const std::vector<std::shared_ptr<arrow::Buffer>>& parts, bool wait);
  // Publishes.
  arrow::Status Close();
  void Discard();

 private:
  const ObjectFilesystem store_;
  const std::string path_;
  const std::string scratch_;
  std::shared_ptr<arrow::io::OutputStream> stream_;  // opened by the first Write
};

}  // namespace secateur
