import Identity
import RPC
import Wire

/// ServiceAnnounce: who serves what, repeated every second.
extension RouteMachine {
    mutating func register(_ id: CallID, _ announce: ServiceAnnounce, _ now: Instant) -> [Action] {
        guard let address = Self.address(of: announce.instanceID) else {
            return [.refuse(id, Failure(.malformedRequest, "instance_id must be role/instance"))]
        }
        guard announce.repeatableMethods.count <= config.maxRepeatableMethods else {
            let text = "at most \(config.maxRepeatableMethods) repeatable methods"
            return [.refuse(id, Failure(.malformedRequest, text))]
        }
        for svid in announce.svids {
            guard svid <= WellKnownService.last else {
                return [.refuse(id, Failure(.malformedRequest, "an svid has 16 bits"))]
            }
            // What is built on the ServiceSDK serves one app; below 1000 it would get every app's requests.
            guard svid >= WellKnownService.firstOfApps || !Self.isStranger(address) else {
                return [.refuse(id, Failure(.forbidden, "svids below 1000 are Martlet's own; take one from 1000 up"))]
            }
            guard svid < WellKnownService.firstOfApps || NameRule.isApp(announce.appID) else {
                return [.refuse(id, Failure(.malformedRequest, "svids from 1000 up belong to an app: name it"))]
            }
        }
        let until = now.micros + UInt64(config.leaseMS) * 1000
        for svid in announce.svids {
            let key = ServiceKey(svid: svid, app: announce.appID)
            if announce.leaving {
                table.leave(key, announce.instanceID)
                continue
            }
            let limit = config.maxRegistrations
            let repeatable = announce.repeatableMethods
            guard
                table.register(
                    key, announce.instanceID, address, repeatable: repeatable, until: until, limit: limit)
            else {
                return [.refuse(id, Failure(.overloaded, "route holds \(limit) registrations already"))]
            }
        }
        var announced = ServiceAnnounced()
        announced.leaseMs = config.leaseMS
        announced.routeID = instance
        return [.reply(id, .serviceAnnounced(announced))]
    }

    private static func isStranger(_ address: Address) -> Bool {
        if case .instance(let role, _) = address { role.rawValue == "service" } else { false }
    }

    /// "role/instance": the instance's name may contain slashes, the role's not.
    static func address(of instanceID: String) -> Address? {
        guard let slash = instanceID.firstIndex(of: "/") else { return nil }
        let role = instanceID[..<slash]
        let name = instanceID[instanceID.index(after: slash)...]
        guard NameRule.isApp(String(role)), NameRule.isUser(String(name)) else { return nil }
        return .instance(RoleName(rawValue: String(role)), String(name))
    }
}
