/// What machines may hold when nothing happens any more. Everything else has to be empty: a queue that is not was
/// forgotten, and would grow for ever.
enum LeftOvers {
    /// Places, without the machine's name, that may hold something.
    private static let lasting: [String: Set<String>] = [
        "IMMachine": ["facts.users.young", "facts.users.old", "rates.young", "rates.old", "typing.rates.young"],
        "LoginMachine": [
            "accounts.known.young", "accounts.known.old", "apps.cache.young", "apps.cache.young[].value.app.keys",
            "apps.cache.young[].value.app.keys[].secret.bytes", "apps.cache.young[].value.keys",
            "apps.cache.young[].value.keys[].secret", "connections", "sessions", "wheel.slots[]",
            // Floors of keys that broke in the last minute.
            "connections[].value.session.keys.keys",
        ],
        "LogMachine": logPlaces(""), "PushLogMachine": logPlaces("log."),
        "MsgProxyMachine": ["waiting"],
        "MsgWriterMachine": [
            "asked", "asked[].value.fetch.positions", "assigned", "buckets", "buckets[].value.heads.young",
            "buckets[].value.heads.old", "config.shardOfBucket", "index", "births",
        ],
        "OnlineMachine": [
            "watches.sessionsOf", "watches.sessionsOf[].value", "watches.watched", "watches.watched[].value.sessions",
            "watches.watches", "watches.watches[].value.users", "watches.ring",
        ],
        "PushServerMachine": ["windows"],
        // The last word about an instance that failed and was not asked since.
        "RouteMachine": [
            "table.services", "table.services[].value.instances", "table.services[].value.repeatable", "table.breakers",
            "logins",
        ],
        // Ids of sessions, bounded and thrown away together.
        "PushWorkerMachine": ["slow"],
        "UserMachine": ["writer.known.young", "writer.known.old", "reached.young", "reached.old"],
    ]

    private static func logPlaces(_ prefix: String) -> Set<String> {
        let places = [
            "", "[].value.groups", "[].value.groups[].value.assignment", "[].value.groups[].value.members",
            "[].value.parked", "[].value.parked[].value", "[].value.parked[].value[].value.fetch.positions",
        ]
        return Set(places.map { prefix + "logs" + $0 })
    }

    /// Most that a lasting place may hold: it grows with devices, conversations and partitions, not with messages.
    private static let most = 40
    /// A wheel always has its slots, a table of rates its places, a bucket its lag, and the slices of the sessions are
    /// there without sessions.
    private static let fixed: Set<String> = [
        "LoginMachine.wheel.slots", "LoginMachine.presence.slices.sums", "MsgProxyMachine.apps.places",
        "MsgProxyMachine.conversations.places", "MsgProxyMachine.lag.allowances.places", "MsgProxyMachine.lag.lagMS",
        "MsgProxyMachine.lag.marks",
    ]

    /// What should not be there, in a fixed order.
    static func check(_ residue: [String: Footprint]) -> [Violation] {
        var found: [Violation] = []
        for (host, footprint) in residue.sorted(by: { $0.key < $1.key }) where !host.hasPrefix("device/") {
            for (place, count) in footprint.counts.sorted(by: { $0.key < $1.key }) where !fixed.contains(place) {
                let machine = place.prefix { $0 != "." && $0 != "<" }
                let rest = place.drop { $0 != "." }.dropFirst()
                let isLasting = lasting[String(machine)]?.contains(String(rest)) ?? false
                if isLasting, count <= most { continue }
                found.append(Violation(.leftOver, "\(host) holds \(count) in \(place)"))
            }
        }
        return found
    }
}
