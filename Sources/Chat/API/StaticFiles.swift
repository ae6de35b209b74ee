import Crypto
import Foundation
import Hummingbird
import NIOCore
import Wire

/// The web client, read into memory once: a request is looked up by its exact path, so none can lead out of the folder.
struct StaticFiles: Sendable {
    private struct File: Sendable {
        let body: ByteBuffer
        let contentType: String
        let tag: String
    }

    private let files: [String: File]

    /// - Throws: `APIStartError.webFolder` when the folder is missing, has no index.html or is over the limits.
    init(folder: String?, limits: APILimits) throws {
        guard let folder else {
            files = [:]
            return
        }
        let root = URL(fileURLWithPath: folder, isDirectory: true).resolvingSymlinksInPath()
        let keys: [URLResourceKey] = [.isRegularFileKey, .isSymbolicLinkKey]
        guard
            let found = FileManager.default.enumerator(
                at: root, includingPropertiesForKeys: keys, options: [.skipsHiddenFiles])
        else { throw APIStartError.webFolder("\(folder) cannot be read") }
        var files: [String: File] = [:]
        var bytes = 0
        for case let url as URL in found {
            let facts = try? url.resourceValues(forKeys: Set(keys))
            // Links are skipped: what they point at need not be meant for everybody.
            guard facts?.isRegularFile == true, facts?.isSymbolicLink != true,
                let type = Self.types[url.pathExtension.lowercased()]
            else { continue }
            guard let data = try? Data(contentsOf: url) else {
                throw APIStartError.webFolder("\(url.lastPathComponent) cannot be read")
            }
            bytes += data.count
            guard bytes <= limits.staticBytes, files.count < limits.staticFiles else {
                throw APIStartError.webFolder("more than \(limits.staticFiles) files or \(limits.staticBytes) bytes")
            }
            let below = url.standardizedFileURL.pathComponents.dropFirst(root.pathComponents.count)
            let path = "/" + below.joined(separator: "/")
            let digits = SHA256.hash(data: data).prefix(12).map { String(format: "%02x", $0) }
            let tag = "\"" + digits.joined() + "\""
            files[path] = File(body: ByteBuffer(bytes: data), contentType: type, tag: tag)
        }
        guard let index = files["/index.html"] else {
            throw APIStartError.webFolder("\(folder) has no index.html")
        }
        files["/"] = index
        self.files = files
    }

    /// The only kinds of files that are served.
    private static let types = [
        "html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8",
        "mjs": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml",
        "png": "image/png", "ico": "image/x-icon", "json": "application/json",
        "webmanifest": "application/manifest+json",
    ]

    /// GET / and below.
    ///
    /// - Throws: not_found.
    func answer(_ request: Request, path: String) throws -> Response {
        guard let file = files[path] else { throw Failure(.notFound, "there is nothing at \(path)") }
        var headers = HTTPFields()
        headers[.contentType] = file.contentType
        headers[.eTag] = file.tag
        // Always asked again, seldom sent again: an upgrade of the server is an upgrade of the page.
        headers[.cacheControl] = "no-cache"
        headers[.xContentTypeOptions] = "nosniff"
        headers[.contentSecurityPolicy] = Self.policy
        if let known = request.headers[.ifNoneMatch], known.contains(file.tag) {
            return Response(status: .notModified, headers: headers)
        }
        let response = Response(status: .ok, headers: headers, body: .init(byteBuffer: file.body))
        return request.method == .head ? response.createHeadResponse() : response
    }

    /// Only our own files run; sockets may go to Login, which listens on a port of its own.
    private static let policy =
        "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        + "form-action 'self'; frame-ancestors 'none'"
}
