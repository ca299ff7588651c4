#include "server/service/corpus_input.h"

#include <algorithm>
#include <utility>

#include "server/base/status_macros.h"
#include "server/storage/file_uri.h"

namespace secateur {

absl::StatusOr<CorpusInput> CorpusInput::Open(const std::string& uri, const StoreOptions& options) {
  CorpusInput input;
  if (!IsBucketScheme(UriScheme(uri))) {
    ASSIGN_OR_RETURN(input.name_, FileUriToPath(uri));
    ASSIGN_OR_RETURN(input.file_, MappedFile::Open(input.name_));
    input.size_ = static_cast<int64_t>(input.file_->bytes().size());
    return input;
  }
  const size_t question = std::min(uri.find('?'), uri.size());
  input.name_ = uri.substr(0, question);
  const size_t slash = input.name_.rfind('/');
  input.key_ = input.name_.substr(slash + 1);
  ASSIGN_OR_RETURN(input.store_,
                   OpenStore(input.name_.substr(0, slash) + uri.substr(question), options));
  ASSIGN_OR_RETURN(const BlobInfo info, input.store_->Head(input.key_));
  input.size_ = info.size;
  return input;
}

absl::StatusOr<std::string> CorpusInput::Read(int64_t offset, int64_t length) {
  if (store_ != nullptr) return store_->Read(key_, offset, length);
  return std::string(
      file_->bytes().substr(static_cast<size_t>(offset), static_cast<size_t>(length)));
}

}  // namespace secateur
