import Foundation

/// A self-signed certificate for localhost and its key, made for these tests and used nowhere else.
enum TestCertificate {
    /// Writes both into a folder of their own; the caller removes it.
    static func write() throws -> (folder: URL, certificate: String, key: String) {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-tls-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let certificateFile = folder.appendingPathComponent("cert.pem")
        let keyFile = folder.appendingPathComponent("key.pem")
        try certificate.write(to: certificateFile, atomically: true, encoding: .utf8)
        try key.write(to: keyFile, atomically: true, encoding: .utf8)
        return (folder, certificateFile.path, keyFile.path)
    }

    static let certificate = """
        -----BEGIN CERTIFICATE-----
        MIIBmzCCAUGgAwIBAgIUH23Us7xg36HxXBomyXHknBmtSbYwCgYIKoZIzj0EAwIw
        FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTExMzAyNloYDzIxMjYxMDI4
        MTEzMDI2WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
        PQMBBwNCAAQNaVu2VQ5JCFx5zQu3RF+9aPsaq0v+A9Bl2YEFf7C/PZifkIJYpnnN
        rXfdZpb2JFSffMb2wn/C5pNKQ4S291BRo28wbTAdBgNVHQ4EFgQU6uuqCQLDeBt8
        LFgBSDHtvk88FzgwHwYDVR0jBBgwFoAU6uuqCQLDeBt8LFgBSDHtvk88FzgwDwYD
        VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
        zj0EAwIDSAAwRQIgaRMKmtY1dMlmujnk6tRGfEK0UEGqw0MoLkrDz6tQ4q8CIQCh
        nicTC+AJMsjUMUq0t/wkqanYWUSnfIdQv5yql9qHKA==
        -----END CERTIFICATE-----
        """

    private static let key = """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgprNRrs5tOKef0rB0
        3C4OoiOdVBUfFWynX9TFq16gBaGhRANCAAQNaVu2VQ5JCFx5zQu3RF+9aPsaq0v+
        A9Bl2YEFf7C/PZifkIJYpnnNrXfdZpb2JFSffMb2wn/C5pNKQ4S291BR
        -----END PRIVATE KEY-----
        """
}
