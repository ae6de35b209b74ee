import Identity
import RPC
import Wire

/// Presence subscriptions.
///
/// A subscription lives at the Online that took it and ends with its session. Any Online that registers or unregisters
/// somebody tells all Onlines (itself included) with a `WatchRequest` that names no session: "these may have changed".
/// Whoever has watchers of them looks them up at the store, which is the only truth, and reports a change once. What
/// nobody announces (a Login's lease ran out, a lost hint) is found by looking at all watched users and watchers in
/// turn, every tick some. When an Online dies its subscriptions die too: clients subscribe again whenever they sync.
extension OnlineMachine {
    mutating func hinted(_ request: WatchRequest) {
        guard !watches.isEmpty else { return }
        for user in request.userIds {
            look(at: Who(app: request.watcher.appID, user: user))
        }
    }

    mutating func poll() {
        for who in watches.nextToPoll(config.polledPerTick) { lookups.append((.watch, who.key)) }
    }

    private mutating func look(at who: Who) {
        guard watches.concerns(who), lookups.count < config.maxItems else { return }
        lookups.append((.watch, who.key))
    }

    /// One hint per app and flush.
    mutating func sendHints() -> [Action] {
        guard !hints.isEmpty else { return [] }
        var requests: [WatchRequest] = []
        var position: [String: Int] = [:]
        for user in hints {
            if position[user.appID] == nil {
                position[user.appID] = requests.count
                var request = WatchRequest()
                request.watcher.appID = user.appID
                requests.append(request)
            }
            if let index = position[user.appID] { requests[index].userIds.append(user.userID) }
        }
        hints = []
        return requests.map { .tell(.all(.online), .watchRequest($0)) }
    }

    /// Tells watchers of what a look-up changed.
    mutating func report(_ seen: [(Who, LookupResult)]) -> [Action] {
        var events: [PushEvent] = []
        for (who, found) in seen {
            let watchers = watches.saw(who, found)
            guard !watchers.isEmpty else { continue }
            var change = PresenceChange()
            change.userID = who.user
            change.online = found.state == .presenceOnline
            var event = PushEvent()
            event.users = watchers.map(\.key)
            event.event.svid = WellKnownService.online
            event.event.name = "presence"
            event.event.body = (try? change.serializedData()) ?? .init()
            events.append(event)
        }
        return PushEvents.parts(events).map { .tell(.any(.pushProxy), .pushEvents($0)) }
    }
}
