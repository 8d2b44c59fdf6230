CREATE TABLE versioned_new (id INT PRIMARY KEY, v INT) WITH /* all that was */ SYSTEM VERSIONING;
INSERT INTO versioned_new VALUES (1, 1), (2, 2), (3, 3);
UPDATE versioned_new SET v = 5 WHERE id = 1;
DELETE FROM versioned_new WHERE id = 2;
