import Foundation
import HTTPTypes
import Hummingbird

/// Whose address counts, and as what.
enum AddressGroup {
    /// The address as limits count it: an IPv4 address alone, an IPv6 one as its /64, which is what one customer has.
    static func of(_ text: String) -> String {
        var bytes = in6_addr()
        guard inet_pton(AF_INET6, text.prefix { $0 != "%" }.description, &bytes) == 1 else { return text }
        return withUnsafeBytes(of: &bytes) { raw in
            // ::ffff:1.2.3.4, which is what a socket for both families shows for IPv4.
            if raw.prefix(10).allSatisfy({ $0 == 0 }), raw[10] == 0xff, raw[11] == 0xff {
                return raw[12...15].map { String($0) }.joined(separator: ".")
            }
            return raw.prefix(8).map { String(format: "%02x", $0) }.joined() + "/64"
        }
    }

    /// The client's address: the socket's own, or the last one of the header that the operator's proxy writes. Earlier
    /// ones in it are what the client said.
    static func client(socket: String, headers: HTTPFields, trusting name: HTTPField.Name?) -> String {
        guard let name, let last = headers[values: name].last?.split(separator: ",").last else { return of(socket) }
        return of(last.trimmingCharacters(in: .whitespaces))
    }
}
