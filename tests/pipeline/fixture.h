// Stores in memory with labelled corpora, for tests of the use cases.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "server/base/strings.h"
#include "server/pipeline/expert_request.h"
#include "server/pipeline/stores.h"
#include "server/storage/memory_store.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace secateur {

struct TestStores {
  FakeClock clock;
  Metrics metrics{"test"};
  MemoryStore blobs{clock};
  CorpusStore corpora{blobs, clock};
  ProfileStore profiles{blobs, metrics};
  ExpertStore experts{blobs, clock};
  LruCache<RelevanceView> views{1 << 20};
  LruCache<MeasuredText> measured{int64_t{1} << 30};
  SingleFlight single_flight;

  Stores all() {
    return {blobs, corpora, profiles, experts, views, measured, single_flight, metrics};
  }

  // A corpus of `documents` short texts about `theme`.
  CorpusInfo Add(const Labels& labels, int documents, const std::string& theme,
                 CorpusPurpose purpose = CorpusPurpose::kCalibration) {
    std::string text;
    for (int i = 0; i < documents; ++i) {
      text += StrCat(R"({"text":")", theme, " is what the text number ", i,
                     " is on; there are other texts on ", theme, R"(."})", "\n");
    }
    return AddJsonLines(labels, text, purpose);
  }

  CorpusInfo AddJsonLines(const Labels& labels, const std::string& text,
                          CorpusPurpose purpose = CorpusPurpose::kCalibration) {
    CorpusInfo info;
    info.labels = labels;
    info.purpose = purpose;
    auto upload = corpora.StartUpload(info, CorpusFormat::kJsonLines);
    EXPECT_OK(upload);
    EXPECT_OK((*upload)->Append(text));
    const auto result = (*upload)->Finish();
    EXPECT_OK(result);
    return result.ok() ? result->corpus : info;
  }

  std::vector<std::string> Keys(const std::string& prefix) {
    std::vector<std::string> keys;
    const auto listed = blobs.List(prefix, "", 1000);
    EXPECT_OK(listed);
    for (const BlobInfo& blob : *listed) keys.push_back(blob.key);
    return keys;
  }
};

inline ExpertRequest RequestFor(std::vector<Selection> select,
                                RelevanceSource source = RelevanceSource::kAuto) {
  ExpertRequest request;
  request.select = std::move(select);
  request.source = source;
  request.budget = Budget(NeuronRatio{0.25});
  return request;
}

}  // namespace secateur
