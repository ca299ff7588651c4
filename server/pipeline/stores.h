// Everything durable and shared that the use cases work with. Plain references; all must outlive
// their users; each is thread-safe.
#pragma once

#include "server/artifact/expert_store.h"
#include "server/corpus/corpus_store.h"
#include "server/metrics/metrics.h"
#include "server/object_storage/open_store.h"
#include "server/pipeline/measured_cache.h"
#include "server/pipeline/single_flight.h"
#include "server/pipeline/view_cache.h"
#include "server/profile/profile_store.h"
#include "server/storage/blob_store.h"

namespace secateur {

struct Stores {
  BlobStore& blobs;
  CorpusStore& corpora;
  ProfileStore& profiles;
  ExpertStore& experts;
  ViewCache& views;
  MeasuredCache& measured;
  SingleFlight& single_flight;
  Metrics& metrics;
  StoreOptions requested = {};  // how stores are opened that a request names
};

}  // namespace secateur
