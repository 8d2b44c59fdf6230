ALTER TABLE modify_charset CONVERT TO CHARACTER SET utf8mb4;
INSERT INTO modify_charset VALUES (3, '😀 smile', 'Ελληνικά', 'k');
ALTER TABLE modify_charset MODIFY v VARCHAR(20) CHARACTER SET utf16;
UPDATE modify_charset SET v = 'ütf16 😀' WHERE id = 2;
ALTER TABLE modify_charset MODIFY k VARCHAR(10) CHARACTER SET ucs2 COLLATE ucs2_bin, DEFAULT CHARACTER SET latin1;
