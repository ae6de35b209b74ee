import Identity
import RPC
import Wire

/// Apps and users for services: passed on in batches, checked first.
extension UserMachine {
    mutating func check(_ id: CallID, _ users: [UserKey]) -> [Action] {
        guard !users.isEmpty else { return [.reply(id, .userChecked(UserChecked()))] }
        guard !isFull(users.count) else { return [full(id)] }
        let job = calls.open(id, count: users.count)
        for (index, user) in users.enumerated() { loads.append((.check(Slot(job: job, index: index)), user)) }
        return []
    }

    /// Creates or updates. A patch is the store's to apply. A put without profile fields (a login, a token issued)
    /// creates the user when there is none and otherwise leaves the profile alone.
    mutating func putUsers(_ id: CallID, _ users: [UserPut]) -> [Action] {
        guard !users.isEmpty else { return [.reply(id, .done(Done()))] }
        guard !isFull(users.count) else { return [full(id)] }
        let job = calls.open(id, count: users.count)
        var actions: [Action] = []
        for (index, put) in users.enumerated() {
            let slot = Slot(job: job, index: index)
            if let failure = fault(put) {
                actions += settle(slot, .done(failure))
            } else if put.hasPatch {
                puts.append((.call(slot), put))
            } else if put.profile.nickname.isEmpty, put.profile.avatarURL.isEmpty, put.profile.custom.isEmpty {
                loads.append((.keepProfile(slot, put), Self.key(put.appID, put.profile.userID)))
            } else {
                puts.append((.call(slot), put))
            }
        }
        return actions
    }

    mutating func loaded(
        _ items: [(wish: LoadWish, user: UserKey)], _ result: CallResult, _ now: Instant
    ) -> [Action] {
        var rows: [UserRow]?
        var stated: Failure?
        if case .answered(.userLoaded(let answer)) = result {
            if answer.hasFailure { stated = answer.failure }
            if !answer.hasFailure, answer.users.count == items.count { rows = answer.users }
        }
        let failure = Self.failure(of: result, stated)
        var actions: [Action] = []
        for (index, item) in items.enumerated() {
            let row = rows?[index]
            switch item.wish {
            case .check(let slot): actions += settle(slot, row.map { .fact(Self.fact($0)) } ?? .failed(failure))
            case .profile(let slot, let last): actions += found(slot, item.user, row, last: last, failure)
            case .keepProfile(let slot, let put):
                guard let row else {
                    actions += settle(slot, .failed(failure))
                    continue
                }
                // A user who logs in again changes nothing: no write.
                if Self.exists(row), put.tokenEpoch <= row.tokenEpoch {
                    actions += settle(slot, .done(Failure()))
                    continue
                }
                var kept = put
                if Self.exists(row) { kept.profile = row.profile }
                kept.profile.userID = put.profile.userID
                puts.append((.call(slot), kept))
            case .peer(let job, let index): actions += peerLoaded(job, index, row.map(Self.exists), failure, now)
            }
        }
        return actions
    }

    mutating func put(_ items: [(wish: PutWish, put: UserPut)], _ result: CallResult) -> [Action] {
        let failures = Self.outcomes(result, count: items.count)
        var actions: [Action] = []
        for (index, item) in items.enumerated() {
            let failure = failures?[index] ?? Self.failure(of: result)
            switch item.wish {
            case .call(let slot): actions += settle(slot, failures == nil ? .failed(failure) : .done(failure))
            case .service(let slot):
                if failure.code == 0 {
                    actions += respond(slot, ServiceReply())
                } else {
                    actions += respond(slot, failure: failure)
                }
            }
        }
        return actions
    }

    mutating func getApps(_ id: CallID, _ apps: [String]) -> [Action] {
        guard !apps.isEmpty else { return [.reply(id, .appsGot(AppsGot()))] }
        guard !isFull(apps.count) else { return [full(id)] }
        let job = calls.open(id, count: apps.count)
        for (index, app) in apps.enumerated() { appsGets.append((Slot(job: job, index: index), app)) }
        return []
    }

    mutating func appsGot(_ items: [(slot: Slot, app: String)], _ result: CallResult) -> [Action] {
        guard case .answered(.appsGot(let got)) = result, got.apps.count == items.count else {
            let failure = Self.failure(of: result)
            return items.flatMap { settle($0.slot, .failed(failure)) }
        }
        return zip(items, got.apps).flatMap { settle($0.slot, .app($1)) }
    }

    mutating func putApps(_ id: CallID, _ request: AppsPut) -> [Action] {
        let apps = request.apps
        guard !apps.isEmpty else { return [.reply(id, .done(Done()))] }
        guard !isFull(apps.count) else { return [full(id)] }
        let job = calls.open(id, count: apps.count)
        var actions: [Action] = []
        for (index, app) in apps.enumerated() {
            let slot = Slot(job: job, index: index)
            if let failure = fault(app) {
                actions += settle(slot, .done(failure))
            } else if request.compare {
                appsCompares.append((slot, app))
            } else {
                appsPuts.append((slot, app))
            }
        }
        return actions
    }

    mutating func appsWritten(_ items: [(slot: Slot, app: App)], _ result: CallResult) -> [Action] {
        guard let failures = Self.outcomes(result, count: items.count) else {
            let failure = Self.failure(of: result)
            return items.flatMap { settle($0.slot, .failed(failure)) }
        }
        return zip(items, failures).flatMap { settle($0.slot, .done($1)) }
    }

    /// Done, spread over its items; nil when the answer is none.
    private static func outcomes(_ result: CallResult, count: Int) -> [Failure]? {
        guard case .answered(.done(let done)) = result else { return nil }
        if done.failures.isEmpty { return Array(repeating: Failure(), count: count) }
        return done.failures.count == count ? done.failures : nil
    }

    static func exists(_ row: UserRow) -> Bool { row.profile.exists || row.version > 0 }

    static func key(_ app: String, _ user: String) -> UserKey {
        var key = UserKey()
        key.appID = app
        key.userID = user
        return key
    }

    private static func fact(_ row: UserRow) -> UserFact {
        var fact = UserFact()
        fact.exists = exists(row)
        fact.version = row.version
        fact.tokenEpoch = row.tokenEpoch
        return fact
    }

    private func fault(_ put: UserPut) -> Failure? {
        guard NameRule.isApp(put.appID), NameRule.isUser(put.profile.userID) else {
            return Failure(.malformedRequest, "app_id or user_id is malformed")
        }
        if put.hasPatch {
            let patch = put.patch
            return fault(nickname: patch.nickname, avatar: patch.avatarURL, customBytes: patch.custom.count)
        }
        return fault(
            nickname: put.profile.nickname, avatar: put.profile.avatarURL, customBytes: put.profile.custom.count)
    }

    func fault(nickname: String, avatar: String, customBytes: Int) -> Failure? {
        guard nickname.utf8.count <= config.maxNicknameBytes else {
            return Failure(.limitExceeded, "nickname has at most \(config.maxNicknameBytes) bytes")
        }
        guard avatar.utf8.count <= config.maxAvatarBytes else {
            return Failure(.limitExceeded, "avatar_url has at most \(config.maxAvatarBytes) bytes")
        }
        guard customBytes <= config.maxCustomBytes else {
            return Failure(.limitExceeded, "custom has at most \(config.maxCustomBytes) bytes")
        }
        return nil
    }

    private func fault(_ app: App) -> Failure? {
        guard NameRule.isApp(app.appID) else { return Failure(.malformedRequest, "app_id is 1 to 64 of a-z 0-9 - _") }
        guard app.name.utf8.count <= config.maxNicknameBytes, app.keys.count <= config.maxAppKeys else {
            return Failure(.limitExceeded, "the name or the list of keys is too long")
        }
        for key in app.keys {
            guard NameRule.isUser(key.keyID), config.secretBytes.contains(key.secret.count) else {
                let sizes = "\(config.secretBytes.lowerBound) to \(config.secretBytes.upperBound)"
                return Failure(.malformedRequest, "a key has an id of 1 to 64 bytes and a secret of \(sizes)")
            }
        }
        return nil
    }
}
