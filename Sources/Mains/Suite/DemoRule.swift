import Foundation

/// Whether the demo users may log in with their passwords at `/demo/login`. The passwords are short and printed, so
/// they are for whoever sits at this machine, unless somebody says otherwise.
enum DemoRule {
    /// - Parameter wanted: what the options say; nil when they say nothing.
    static func isOn(host: String, wanted: Bool?) -> Bool { wanted ?? isLoopback(host) }

    /// Whether only this machine can connect to the address. A name other than localhost may be anything.
    static func isLoopback(_ host: String) -> Bool {
        if host == "localhost" { return true }
        var four = in_addr()
        if inet_pton(AF_INET, host, &four) == 1 { return UInt32(bigEndian: four.s_addr) >> 24 == 127 }
        var six = in6_addr()
        guard inet_pton(AF_INET6, host, &six) == 1 else { return false }
        return withUnsafeBytes(of: six) { bytes in bytes.dropLast().allSatisfy { $0 == 0 } && bytes.last == 1 }
    }

    /// The banner's words about a login that is off.
    static func whyOff(host: String) -> String {
        isLoopback(host)
            ? "off, as it is not wanted"
            : "off, as other machines reach \(host); --demo-login lets the demo users in with their passwords"
    }
}
