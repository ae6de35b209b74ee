/// What `martlet bench neighbour` found; the property names, in snake case, are the JSON's.
struct NeighbourReport: BenchReport, Encodable {
    /// Both halves of a turn.
    struct Turn: Encodable {
        var quietP50Ms: Double
        var quietP99Ms: Double
        var hostileP50Ms: Double
        var hostileP99Ms: Double
        /// Of the 99th percentiles.
        var ratio: Double

        /// Neither may be empty.
        init(quiet: Histogram, hostile: Histogram) {
            let (alone, beside) = (Percentiles(quiet), Percentiles(hostile))
            quietP50Ms = alone.p50
            quietP99Ms = alone.p99
            hostileP50Ms = beside.p50
            hostileP99Ms = beside.p99
            ratio = rounded(Double(hostile.percentile(0.99)) / Double(Swift.max(1, quiet.percentile(0.99))))
        }
    }

    var bench = "neighbour"
    var pairs: Int
    var bytes: Int
    var perS: Int
    var seconds: Int
    var turns: [Turn]
    /// Medians over the turns.
    var quietP99Ms: Double
    var hostileP99Ms: Double
    /// The median of the turns' ratios, not the ratio of the medians.
    var ratio: Double
    /// What the hostile processes did, together.
    var hostile: HostileReport
    /// What went wrong for the neighbours, and a ratio above the limit.
    var errors: Int
    var errorCounts: [String: Int]

    init(
        _ chat: ChatPlan, _ plan: NeighbourPlan, turns: [Turn], hostile: HostileReport, lost: [String: Int]
    ) {
        pairs = chat.pairs
        bytes = chat.bytes
        perS = plan.rate
        seconds = plan.seconds
        self.turns = turns
        quietP99Ms = median(turns.map(\.quietP99Ms))
        hostileP99Ms = median(turns.map(\.hostileP99Ms))
        ratio = median(turns.map(\.ratio))
        self.hostile = hostile
        errorCounts = lost
        if let limit = plan.limit, ratio > limit { errorCounts["ratio_above_limit"] = 1 }
        errors = errorCounts.values.reduce(0, +)
    }

    var words: String {
        """
        the neighbours' p99: \(quietP99Ms) ms alone, \(hostileP99Ms) ms beside hostile clients; \(ratio) times as much \
        (medians of \(turns.count))
        \(hostile.words)
        errors: \(errors)\(errorCounts.isEmpty ? "" : " \(errorCounts)")
        """
    }
}

/// The middle value; of an even number the mean of the middle two; 0 of none.
func median(_ values: [Double]) -> Double {
    guard !values.isEmpty else { return 0 }
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : rounded((sorted[middle - 1] + sorted[middle]) / 2)
}

extension HostileReport {
    /// Several runs as one.
    init(sumOf reports: [HostileReport]) {
        self.init()
        for report in reports {
            seconds = rounded(seconds + report.seconds)
            connections += report.connections
            byKind.merge(report.byKind, uniquingKeysWith: +)
            refused += report.refused
            endedByServer += report.endedByServer
            bytes += report.bytes
            requests += report.requests
            cpuS = rounded(cpuS + report.cpuS)
        }
    }
}
