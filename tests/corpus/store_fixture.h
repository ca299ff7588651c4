// A corpus store over a memory store, with a clock that tests move.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "server/base/status_macros.h"
#include "server/corpus/corpus_store.h"
#include "server/storage/memory_store.h"
#include "tests/support/status_matchers.h"

namespace secateur {

class SettableClock final : public Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time now = absl::FromUnixSeconds(1'700'000'000);
};

inline CorpusInfo Labelled(Labels labels, CorpusPurpose purpose = CorpusPurpose::kCalibration) {
  CorpusInfo info;
  info.labels = std::move(labels);
  info.purpose = purpose;
  return info;
}

inline absl::StatusOr<CorpusUpload::Result> Upload(CorpusStore& store, const CorpusInfo& info,
                                                   std::string_view bytes,
                                                   CorpusFormat format = CorpusFormat::kJsonLines) {
  ASSIGN_OR_RETURN(const std::unique_ptr<CorpusUpload> upload, store.StartUpload(info, format));
  RETURN_IF_ERROR(upload->Append(bytes));
  return upload->Finish();
}

inline absl::StatusOr<std::vector<Document>> Documents(const CorpusStore& store,
                                                       const std::string& id) {
  std::vector<Document> documents;
  RETURN_IF_ERROR(store.ForEachDocument(id, [&](Document document) {
    documents.push_back(std::move(document));
    return absl::OkStatus();
  }));
  return documents;
}

inline std::vector<std::string> Keys(BlobStore& blobs, const std::string& prefix = "") {
  std::vector<std::string> keys;
  const auto list = blobs.List(prefix, "", 100'000);
  EXPECT_OK(list);
  for (const BlobInfo& blob : *list) keys.push_back(blob.key);
  return keys;
}

class CorpusStoreTest : public testing::Test {
 protected:
  // What a server that starts anew finds.
  std::unique_ptr<CorpusStore> Restarted() {
    auto store = std::make_unique<CorpusStore>(blobs_, clock_);
    EXPECT_OK(store->Load());
    return store;
  }

  SettableClock clock_;
  MemoryStore blobs_{clock_};
  CorpusStore store_{blobs_, clock_};
};

}  // namespace secateur
