INSERT INTO on_duplicate_key (id, code, n) VALUES (1, 'z', 5) ON DUPLICATE KEY UPDATE n = n + 5;
INSERT INTO on_duplicate_key (code, n) VALUES ('b', 9), ('c', 3), ('c', 4) ON DUPLICATE KEY UPDATE n = n + VALUES(n);
INSERT INTO on_duplicate_key (id, code, n) VALUES (2, 'q', 1) ON DUPLICATE KEY UPDATE id = 77;
