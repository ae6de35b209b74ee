import Identity
import RPC
import Wire

/// svid 4: the users' calls. Methods 3 and 4, the profiles, are here; 1 is in Syncing.swift, 2 in SettingState.swift.
extension UserMachine {
    private enum Method {
        static let sync: UInt32 = 1
        static let setState: UInt32 = 2
        static let profiles: UInt32 = 3
        static let setProfile: UInt32 = 4
    }

    mutating func serve(_ id: CallID, _ requests: [ServiceCall], _ now: Instant) -> [Action] {
        guard !requests.isEmpty else { return [.reply(id, .serviceReplies(ServiceReplies()))] }
        guard !isFull(requests.count) else { return [full(id)] }
        let job = services.open(id, count: requests.count)
        var actions: [Action] = []
        for (index, call) in requests.enumerated() {
            let slot = ServiceSlot(job: job, index: index)
            guard call.svid == WellKnownService.user else {
                let text = "this is service \(WellKnownService.user), not \(call.svid)"
                actions += respond(slot, failure: Failure(.noSuchService, text))
                continue
            }
            switch call.method {
            case Method.sync: actions += sync(slot, call)
            case Method.setState: actions += setState(slot, call, now)
            case Method.profiles: actions += askProfiles(slot, call)
            case Method.setProfile: actions += setProfile(slot, call)
            default:
                let text = "user has methods 1 sync, 2 set_state, 3 profiles and 4 set_profile, not \(call.method)"
                actions += respond(slot, failure: Failure(.noSuchMethod, text))
            }
        }
        return actions
    }

    private mutating func askProfiles(_ slot: ServiceSlot, _ call: ServiceCall) -> [Action] {
        guard let request = try? ProfilesRequest(serializedBytes: call.body) else {
            return respond(slot, failure: Failure(.malformedRequest, "the body is no ProfilesRequest"))
        }
        guard request.userIds.count <= config.maxProfiles else {
            return respond(slot, failure: Failure(.limitExceeded, "at most \(config.maxProfiles) profiles in one call"))
        }
        guard request.userIds.allSatisfy(NameRule.isUser) else {
            return respond(slot, failure: Failure(.malformedRequest, "a user id must be \(NameRule.userForm)"))
        }
        guard !request.userIds.isEmpty else { return respond(slot, ServiceReply()) }
        guard !isFull(loads.count + request.userIds.count) else {
            return respond(slot, failure: Failure(.overloaded, "user has \(config.maxItems) items waiting"))
        }
        profiles[slot] = ProfilesResponse()
        for (index, user) in request.userIds.enumerated() {
            let last = index == request.userIds.count - 1
            loads.append((.profile(slot, last: last), Self.key(call.caller.appID, user)))
        }
        return []
    }

    /// Tags and lengths of a profile and its fields, at most.
    private static let profileFieldBytes = 24

    mutating func found(
        _ slot: ServiceSlot, _ user: UserKey, _ row: UserRow?, last: Bool, _ failure: Failure
    ) -> [Action] {
        guard let row else {
            return profiles.removeValue(forKey: slot) == nil ? [] : respond(slot, failure: failure)
        }
        var profile = row.profile
        profile.userID = user.userID
        profile.exists = Self.exists(row)
        profiles[slot]?.profiles.append(profile)
        guard last, var response = profiles.removeValue(forKey: slot) else { return [] }
        // The first ones, as many as a frame holds: the caller asks for the others again.
        var bytes = 0
        let kept = response.profiles.prefix { profile in
            bytes += profile.userID.utf8.count + profile.nickname.utf8.count + profile.avatarURL.utf8.count
            bytes += profile.custom.count + Self.profileFieldBytes
            return bytes <= config.maxResponseBytes
        }
        if kept.count < response.profiles.count { response.profiles = Array(kept) }
        var reply = ServiceReply()
        reply.body = (try? response.serializedData()) ?? .init()
        return respond(slot, reply)
    }

    private mutating func setProfile(_ slot: ServiceSlot, _ call: ServiceCall) -> [Action] {
        guard let request = try? SetProfileRequest(serializedBytes: call.body) else {
            return respond(slot, failure: Failure(.malformedRequest, "the body is no SetProfileRequest"))
        }
        let customBytes = request.custom.count
        if let failure = fault(nickname: request.nickname, avatar: request.avatarURL, customBytes: customBytes) {
            return respond(slot, failure: failure)
        }
        var put = UserPut()
        put.appID = call.caller.appID
        put.profile.userID = call.caller.userID
        put.profile.nickname = request.nickname
        put.profile.avatarURL = request.avatarURL
        put.profile.custom = request.custom
        put.profile.exists = true
        puts.append((.service(slot), put))
        return []
    }
}
