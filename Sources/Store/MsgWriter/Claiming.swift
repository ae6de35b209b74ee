import RPC
import Wire

extension MsgWriterMachine {
    /// Claims what is assigned and not claimed, all in one call. A claim needs the log's end, which the store
    /// compares.
    mutating func claim() -> [Action] {
        var body = BucketClaims()
        var claims: [(bucket: UInt32, life: UInt64)] = []
        for number in assigned {
            guard case .unclaimed(let after)? = buckets[number]?.phase, let bucket = buckets[number], !bucket.waiting,
                let end = bucket.end, after <= membership.fetches, !isChecking(after)
            else { continue }
            if end < bucket.delivered { continue }
            var claim = BucketClaim()
            claim.bucket = number
            claim.incarnation = membership.incarnation
            claim.logEnd = end
            claim.owner = config.instance
            body.claims.append(claim)
            claims.append((number, bucket.life))
            buckets[number]?.phase = .claiming
        }
        let stops = shortLogs()
        guard !claims.isEmpty else { return stops }
        return stops + [ask(.any(.recentStore), .bucketClaims(body), .claim(claims))]
    }

    /// Whether the fetch that has to show a bucket still assigned is under way.
    private func isChecking(_ after: UInt64) -> Bool { membership.inFlight && after == membership.fetches }

    private mutating func shortLogs() -> [Action] {
        var actions: [Action] = []
        for number in assigned {
            guard let end = buckets[number]?.end, let delivered = buckets[number]?.delivered, end < delivered else {
                continue
            }
            actions += stop(number, "the log ends at \(end), before what is delivered")
        }
        return actions
    }

    mutating func claimed(_ claims: [(bucket: UInt32, life: UInt64)], _ result: CallResult) -> [Action] {
        var results: [BucketClaimResult]?
        if case .answered(.bucketClaimed(let body)) = result, body.results.count == claims.count {
            results = body.results
        }
        var actions: [Action] = []
        for (index, claim) in claims.enumerated() {
            guard let bucket = buckets[claim.bucket], bucket.life == claim.life, bucket.phase == .claiming else {
                continue
            }
            guard let result = results?[index], !result.hasFailure || !result.failure.retryable else {
                buckets[claim.bucket]?.phase = .unclaimed(afterFetch: membership.fetches)
                actions += holdBack(claim.bucket)
                continue
            }
            if result.hasFailure {
                actions += stop(claim.bucket, result.failure.message)
                continue
            }
            buckets[claim.bucket]?.phase = .ready
            buckets[claim.bucket]?.epoch = result.epoch
            buckets[claim.bucket]?.stored = result.stored
            buckets[claim.bucket]?.next = min(result.stored, bucket.delivered)
            buckets[claim.bucket]?.backoff.reset()
        }
        return actions
    }

    /// Somebody else claimed the bucket: everything cached is worthless. It is claimed again only after the log has
    /// said once more that it is ours, or two writers would go on taking it from each other.
    mutating func conflict(_ number: UInt32) -> [Action] {
        forget(number, phase: .unclaimed(afterFetch: membership.fetches + 1))
        return holdBack(number)
    }
}
