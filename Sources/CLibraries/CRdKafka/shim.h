#ifndef MARTLET_CRDKAFKA_SHIM_H
#define MARTLET_CRDKAFKA_SHIM_H
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdlib.h>

/* Macros that are casts or compound expressions, which Swift does not import. */
static const int32_t martlet_partition_any = RD_KAFKA_PARTITION_UA;
static const int martlet_produce_copy = RD_KAFKA_MSG_F_COPY;
static const int martlet_purge_all =
    RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING;

/* One answer of a mock broker to a kind of request, with a delay; the function of the library is variadic. */
static inline rd_kafka_resp_err_t martlet_mock_push(
    rd_kafka_mock_cluster_t *cluster, int32_t broker, int16_t api, rd_kafka_resp_err_t error, int rtt_ms) {
    return rd_kafka_mock_broker_push_request_error_rtts(cluster, broker, api, 1, error, rtt_ms);
}
#endif
