// Everything durable and shared that the use cases work with. Plain references; all must outlive
// their users; each is thread-safe.
#pragma once

#include "server/artifact/expert_store.h"
#include "server/base/lru_cache.h"
#include "server/compensate/measured_text.h"
#include "server/corpus/corpus_store.h"
#include "server/metrics/metrics.h"
#include "server/object_storage/open_store.h"
#include "server/pipeline/single_flight.h"
#include "server/profile/dimension.h"
#include "server/profile/profile_store.h"
#include "server/storage/blob_store.h"

namespace secateur {

struct Stores {
  BlobStore& blobs;
  CorpusStore& corpora;
  ProfileStore& profiles;
  ExpertStore& experts;
  LruCache<RelevanceView>& views;    // by what they were merged from; in bytes of memory
  LruCache<MeasuredText>& measured;  // by what it was measured from; in bytes on disk
  SingleFlight& single_flight;
  Metrics& metrics;
  StoreOptions requested = {};  // how stores are opened that a request names
};

}  // namespace secateur
