import Foundation
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS
import Ports

/// When certificates end: those of our files, and those that servers show.
enum CertificateProbe {
    private static let patience = TimeAmount.seconds(3)

    /// - Parameter key: the configuration's key of the file.
    static func file(_ path: String, key: String, nowSeconds: Int64) -> Finding {
        do {
            let all = try NIOSSLCertificate.fromPEMFile(path)
            guard let first = all.map({ Int64($0.notValidAfter) }).min() else {
                return Finding(.error, "\(key): certificate", "\(path) has none", cure: "Put the chain (PEM) into it")
            }
            return Findings.certificate(key, secondsLeft: first - nowSeconds)
        } catch {
            return Finding(
                .error, "\(key): certificate", "\(path) cannot be read as PEM", cure: "Correct the path, or the file")
        }
    }

    /// The server's own certificate, trusted or not: the client that is used later judges that. Nil: there is no
    /// conversation at all, which others tell.
    static func server(
        _ host: String, _ port: Int, subject: String, group: any EventLoopGroup, nowSeconds: Int64
    ) async -> Finding? {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.certificateVerification = .none
        guard let context = try? NIOSSLContext(configuration: configuration) else { return nil }
        let seen = group.next().makePromise(of: Int64?.self)
        group.next().scheduleTask(in: patience) { seen.succeed(nil) }
        let channel = try? await ClientBootstrap(group: group).connectTimeout(patience)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    // Names in certificates are no addresses.
                    let isName = (try? SocketAddress(ipAddress: host, port: port)) == nil
                    let tls = try NIOSSLClientHandler(context: context, serverHostname: isName ? host : nil)
                    try channel.pipeline.syncOperations.addHandlers(tls, Watch(tls, seen))
                }
            }
            .connect(host: host, port: port).get()
        guard let channel else {
            seen.succeed(nil)
            return nil
        }
        let ends = try? await seen.futureResult.get()
        try? await channel.close().get()
        return ends.flatMap { $0 }.map {
            Findings.certificate("\(subject) \(host):\(port)", secondsLeft: $0 - nowSeconds)
        }
    }

    /// Waits for the end of the handshake. Isolation: its event loop.
    private final class Watch: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let tls: NIOSSLClientHandler
        private let seen: EventLoopPromise<Int64?>

        init(_ tls: NIOSSLClientHandler, _ seen: EventLoopPromise<Int64?>) {
            self.tls = tls
            self.seen = seen
        }

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            if case .handshakeCompleted? = event as? TLSUserEvent {
                seen.succeed(tls.peerCertificate.map { Int64($0.notValidAfter) })
            }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { seen.succeed(nil) }

        func channelInactive(context: ChannelHandlerContext) { seen.succeed(nil) }
    }
}
