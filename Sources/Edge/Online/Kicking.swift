import RPC
import Wire

/// A kick that has not been confirmed.
struct WaitingKick: Sendable {
    let loginID: String
    let item: KickItem
    /// `Instant.micros`: a Login that was not reachable until then has lost its sessions.
    let giveUpAt: UInt64
    var notBefore: UInt64
}

/// Kicks to send or to send again.
struct KickQueue: Sendable {
    private var waiting: [WaitingKick] = []
    private var flying = 0

    var isEmpty: Bool { waiting.isEmpty }
    var count: Int { waiting.count + flying }

    mutating func add(_ kick: WaitingKick) { waiting.append(kick) }

    /// What is due, per Login, in the order of arrival.
    mutating func due(_ now: UInt64) -> [(login: String, kicks: [WaitingKick])] {
        var batches: [(login: String, kicks: [WaitingKick])] = []
        var position: [String: Int] = [:]
        var later: [WaitingKick] = []
        for kick in waiting {
            if kick.notBefore > now {
                later.append(kick)
            } else if let index = position[kick.loginID] {
                batches[index].kicks.append(kick)
            } else {
                position[kick.loginID] = batches.count
                batches.append((kick.loginID, [kick]))
            }
        }
        flying += waiting.count - later.count
        waiting = later
        return batches
    }

    mutating func returned(_ count: Int) { flying -= count }
}

/// Kicks go through Route and are repeated until confirmed or until the Login cannot hold the session any more.
extension OnlineMachine {
    mutating func kick(_ registration: Registration, _ kick: Kick, _ now: Instant) -> [Action] {
        guard kicks.count < config.maxKicks else {
            return [.warn("kick dropped: too many unconfirmed", ["limit": "\(config.maxKicks)"])]
        }
        var item = KickItem()
        item.session.sessionID = registration.sessionID
        item.session.epoch = registration.epoch
        item.session.appID = registration.appID
        item.session.userID = registration.userID
        item.kick = kick
        let until = now.micros + UInt64(config.kickForMS) * 1000
        kicks.add(WaitingKick(loginID: registration.loginID, item: item, giveUpAt: until, notBefore: now.micros))
        return []
    }

    mutating func sendKicks(_ now: Instant) -> [Action] {
        guard !kicks.isEmpty else { return [] }
        var actions: [Action] = []
        for batch in kicks.due(now.micros) {
            var request = KickRequest()
            request.loginID = batch.login
            request.items = batch.kicks.map(\.item)
            let token = token()
            flights[token] = .kicking(batch.kicks)
            actions.append(.call(token, .any(.route), .kickRequest(request), timeoutMS: config.kickTimeoutMS))
        }
        return actions
    }

    /// Done with a retryable failure means that the Login was not reached; any other answer, that the session is gone.
    mutating func kicked(_ items: [WaitingKick], _ result: CallResult, _ now: Instant) -> [Action] {
        kicks.returned(items.count)
        var again = items
        if case .answered(let payload) = result {
            guard case .done(let done) = payload, done.failures.count == items.count else { return [] }
            again = zip(items, done.failures).compactMap { $1.retryable ? $0 : nil }
        }
        var given = 0
        for var kick in again {
            guard kick.giveUpAt > now.micros else {
                given += 1
                continue
            }
            kick.notBefore = now.micros + UInt64(config.kickRetryMS) * 1000
            kicks.add(kick)
        }
        return given == 0 ? [] : [.warn("kicks given up: their Login was not reachable", ["kicks": "\(given)"])]
    }
}
